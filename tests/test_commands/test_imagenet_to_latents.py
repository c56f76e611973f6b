"""``mmwf imagenet-to-latents``, with a small VAE with random weights."""

import cv2
import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file

from mmwf.commands.imagenet_to_latents import main
from mmwf.datasets import LatentDataset
from mmwf.errors import UserError

IMAGES = {'cat': 3, 'dog': 4}


@pytest.fixture(scope='module')
def vae(tmp_path_factory):
    """Folder of a VAE that downsamples by 2."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp('vae')
    blocks = dict(down_block_types=['DownEncoderBlock2D'] * 2)
    blocks |= dict(up_block_types=['UpDecoderBlock2D'] * 2, block_out_channels=[4, 8])
    AutoencoderKL(norm_num_groups=2, latent_channels=4, **blocks).save_pretrained(folder)
    return folder


@pytest.fixture
def images(tmp_path):
    rng = np.random.default_rng(0)
    for name, count in IMAGES.items():
        (tmp_path / 'images' / name).mkdir(parents=True)
        for i in range(count):
            image = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            cv2.imwrite(str(tmp_path / 'images' / name / f'{i}.png'), image)
    return tmp_path / 'images'


@pytest.fixture
def encode(images, vae, tmp_path):
    """Runs the command and returns the folder of the shards."""

    def run(*args, vae=vae):
        options = ('--image-size', 16, '--shard-size', 3, '--batch-size', 2, '--num-workers', 0)
        arguments = (images, tmp_path / 'out', '--vae', vae, *options, *args)
        main([str(argument) for argument in arguments])
        return tmp_path / 'out'

    return run


def test_the_latents_are_those_of_the_vae(encode, images, vae, capsys):
    out = encode()
    assert [path.name for path in sorted(out.iterdir())] == [
        f'latents-0000{i}-of-00003.safetensors' for i in range(3)
    ]
    shards = [load_file(path) for path in sorted(out.iterdir())]
    assert torch.cat([shard['labels'] for shard in shards]).tolist() == [0, 0, 0, 1, 1, 1, 1]
    image = cv2.imread(str(images / 'dog/1.png'))[:, :, ::-1] / 127.5 - 1
    image = torch.tensor(image, dtype=torch.float32).permute(2, 0, 1)[None]
    model = AutoencoderKL.from_pretrained(vae, low_cpu_mem_usage=False)
    for flip, view in enumerate((image, image.flip(-1))):
        with torch.no_grad():
            expected = model.encode(view).latent_dist
        mean, std = shards[1]['moments'][1, flip].float().chunk(2)  # image 4 of all
        assert torch.allclose(mean, expected.mean[0], rtol=1e-3, atol=1e-4)
        assert torch.allclose(std, expected.std[0], rtol=1e-3, atol=1e-4)
    dataset = LatentDataset(out, shape=(4, 8, 8))
    assert len(dataset) == 7
    assert dataset.metainfo['classes'] == ['cat', 'dog']
    assert f'VAE {dataset.metainfo["vae_hash"]}' in capsys.readouterr().out


def test_a_second_run_encodes_only_missing_and_truncated_shards(encode, capsys):
    out = encode()
    first, second, third = sorted(out.iterdir())
    expected = {path: path.read_bytes() for path in (first, second, third)}
    first.unlink()
    second.write_bytes(expected[second][:-1])
    time = third.stat().st_mtime_ns
    encode()
    assert '1 of 3 shards are complete' in capsys.readouterr().out
    assert third.stat().st_mtime_ns == time
    assert {path: path.read_bytes() for path in sorted(out.iterdir())} == expected


def test_processes_share_the_shards(encode, monkeypatch):
    monkeypatch.setenv('WORLD_SIZE', '2')
    monkeypatch.setenv('RANK', '1')
    out = encode()
    assert [path.name[8:13] for path in out.iterdir()] == ['00001']
    monkeypatch.setenv('RANK', '0')
    encode()
    assert len(LatentDataset(out)) == 7


def test_shards_with_other_settings_are_an_error(encode):
    encode()
    with pytest.raises(UserError, match='image_size is 16 and 8.*one folder per dataset'):
        encode('--image-size', 8)


def test_a_missing_vae_is_an_error_that_says_what_to_download(encode, tmp_path, monkeypatch):
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_OFFLINE', True)
    for missing in (tmp_path, 'nobody/no-vae'):
        with pytest.raises(UserError, match=f'VAE {missing}: .*hf download stabilityai'):
            encode(vae=missing)


def test_a_folder_without_classes_is_an_error(encode, images):
    for name in IMAGES:
        for path in (images / name).iterdir():
            path.rename(images / f'{name}-{path.name}')
        (images / name).rmdir()
    with pytest.raises(UserError, match='find any class folder.*/CLASS/'):
        encode()


def test_a_size_of_zero_is_an_error(encode):
    for option in ('--shard-size', '--image-size', '--batch-size'):
        with pytest.raises(UserError, match='of 1 or more'):
            encode(option, 0)


def test_a_damaged_image_is_named_and_finished_shards_stay(encode, images, tmp_path):
    (images / 'dog/3.png').write_bytes(b'no image')
    with pytest.raises(UserError, match=r'Cannot read the image .*dog/3\.png'):
        encode()
    assert [path.name[8:13] for path in sorted((tmp_path / 'out').iterdir())] == ['00000', '00001']
