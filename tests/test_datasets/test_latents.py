import pickle

import pytest
import torch
from mmengine.registry import DATASETS
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.data import DataLoader

from mmwf.datasets.latents import (
    TENSORS,
    DamagedShardError,
    LatentDataset,
    ShardInfo,
    write_shard,
)
from mmwf.errors import UserError

SHAPE = (4, 2, 3)
COUNTS = (3, 2)  # of images in the two shards


def write(folder, moments, **changes):
    """Writes two shards; the label of an image is its index."""
    settings = dict(
        vae='a-vae',
        vae_hash='cafe',
        image_size=16,
        classes=['a', 'b', 'c', 'd', 'e'],
        num_images=5,
        num_shards=2,
    )
    labels = torch.arange(5)
    for index, part in enumerate(torch.arange(5).split(COUNTS)):
        info = ShardInfo(index=index, **dict(settings, **changes))
        write_shard(folder, moments[part], labels[part], info)


@pytest.fixture
def moments():
    """Means and standard deviations of five images and their flips."""
    means = torch.randn(5, 2, *SHAPE)
    return torch.cat([means, torch.full_like(means, 0.5)], dim=2)


@pytest.fixture
def folder(tmp_path, moments):
    write(tmp_path, moments)
    return tmp_path


def shard(folder, index):
    return folder / f'latents-0000{index}-of-00002.safetensors'


def damage(path, position):
    """Changes a byte; a negative position counts from the end."""
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def test_items_have_the_form_that_the_model_trains_on(folder):
    dataset = DATASETS.build(dict(type='mmwf.LatentDataset', data_root=str(folder), shape=SHAPE))
    items = [dataset[i] for i in range(len(dataset))]
    assert [item['data_samples'].label for item in items] == [0, 1, 2, 3, 4]
    assert {(item['inputs'].shape, item['inputs'].dtype) for item in items} == {
        (torch.Size(SHAPE), torch.float32)
    }
    assert dataset.metainfo == dict(classes=['a', 'b', 'c', 'd', 'e'], vae_hash='cafe')


@pytest.mark.parametrize('flip', [0, 1])
def test_latents_have_the_scaled_mean_and_deviation(folder, moments, flip):
    dataset = LatentDataset(folder, flip_prob=flip, scale=2.0)
    drawn = torch.stack([dataset[3]['inputs'] for _ in range(2000)])
    assert torch.allclose(drawn.mean(0), 2 * moments[3, flip, :4], atol=0.1)
    assert torch.allclose(drawn.std(0), torch.tensor(1.0), atol=0.08)


def test_half_of_the_latents_are_of_the_flipped_image(tmp_path, moments):
    moments[:, 0, :4], moments[:, 1, :4] = -100, 100
    write(tmp_path, moments)
    dataset = LatentDataset(tmp_path)
    share = sum(dataset[0]['inputs'].mean() > 0 for _ in range(1000)) / 1000
    assert 0.45 < share < 0.55


def test_workers_read_every_image_once(folder):
    dataset = LatentDataset(folder)
    dataset[0]  # opens a shard
    loader = DataLoader(dataset, 2, num_workers=2, collate_fn=list)
    labels = [item['data_samples'].label for batch in loader for item in batch]
    assert labels == [0, 1, 2, 3, 4]


def test_a_dataset_can_be_pickled(folder):
    dataset = LatentDataset(folder, flip_prob=0)
    copy = pickle.loads(pickle.dumps(dataset))
    torch.manual_seed(1)
    first = dataset[4]['inputs']
    torch.manual_seed(1)
    assert torch.equal(copy[4]['inputs'], first)


def test_a_wrong_shape_is_an_error_that_names_both(folder):
    with pytest.raises(ValueError, match=r'shape \(4, 32, 32\), got \(4, 2, 3\) in '):
        LatentDataset(folder, shape=(4, 32, 32))


def test_another_vae_than_expected_is_an_error(folder):
    LatentDataset(folder, vae_hash='cafe')
    with pytest.raises(ValueError, match=r'the VAE beef, got those of cafe \(a-vae\)'):
        LatentDataset(folder, vae_hash='beef')


def test_shards_of_two_vaes_are_an_error(folder, moments, tmp_path_factory):
    other = tmp_path_factory.mktemp('other')
    write(other, moments, vae_hash='beef')
    shard(other, 1).replace(shard(folder, 1))
    with pytest.raises(ValueError, match="do not belong together: vae_hash is 'beef' and 'cafe'"):
        LatentDataset(folder)


def test_no_shards_are_an_error_that_names_the_tool(tmp_path):
    with pytest.raises(ValueError, match=r'no shards .*imagenet_to_latents\.py'):
        LatentDataset(tmp_path)


def test_a_missing_shard_is_an_error(folder):
    shard(folder, 0).unlink()
    for on_error in ('raise', 'skip'):
        with pytest.raises(ValueError, match='1 of 2 shards are missing in .*: 0'):
            LatentDataset(folder, on_error=on_error)


@pytest.mark.parametrize('content', [slice(-5), slice(100), slice(0)])
def test_a_truncated_shard_is_named_or_skipped(folder, content):
    path = shard(folder, 0)
    path.write_bytes(path.read_bytes()[content])
    with pytest.raises(ValueError, match=rf'The shard {path} is damaged or truncated'):
        LatentDataset(folder)
    dataset = LatentDataset(folder, on_error='skip')
    assert [dataset[i]['data_samples'].label for i in range(len(dataset))] == [3, 4]


def test_another_safetensors_file_is_not_a_shard(folder):
    path = shard(folder, 1)
    data = path.read_bytes()
    path.write_bytes(data.replace(b'mmwf_latents', b'mmwf_patents'))
    with pytest.raises(ValueError, match=rf'{path} is not a shard of latents'):
        LatentDataset(folder)


def test_a_copy_under_another_name_is_found(folder):
    shard(folder, 1).write_bytes(shard(folder, 0).read_bytes())
    with pytest.raises(ValueError, match=r'latents-00001-.* is a copy of latents-00000-'):
        LatentDataset(folder)


def test_a_flipped_bit_is_found_when_the_image_is_read(folder):
    path = shard(folder, 1)
    data = path.read_bytes()
    header = 8 + int.from_bytes(data[:8], 'little')
    for position in range(header, len(data), 3):
        path.write_bytes(data)
        damage(path, position)
        with pytest.raises(ValueError, match=rf'Image [01] of the shard {path} is damaged'):
            for flip in (0, 1):
                dataset = LatentDataset(folder, flip_prob=flip)
                for index in (3, 4):
                    dataset[index]


def test_a_damaged_image_is_replaced_by_the_next(folder):
    path = shard(folder, 1)
    damage(path, path.read_bytes().index(torch.tensor(4).numpy().tobytes()))  # the last label
    dataset = LatentDataset(folder, on_error='skip')
    assert [dataset[i]['data_samples'].label for i in range(5)] == [0, 1, 2, 3, 0]


def test_an_unknown_on_error_is_an_error(folder):
    with pytest.raises(ValueError, match="on_error to be 'raise' or 'skip', got 'ignore'"):
        LatentDataset(folder, on_error='ignore')


def test_a_huge_number_of_shards_is_an_error_at_once(tmp_path, moments):
    settings = dict(vae='v', vae_hash='cafe', image_size=16, classes=['a'], num_images=1)
    info = ShardInfo(index=0, num_shards=10**9, **settings)
    write_shard(tmp_path, moments[:1], torch.zeros(1, dtype=torch.long), info)
    with pytest.raises(ValueError, match=r'999999999 of 1000000000 .*: 1, 2, 3, 4, 5, \.\.\.'):
        LatentDataset(tmp_path)


@pytest.mark.parametrize('changes', [dict(num_shards='2'), dict(num_shards=-1), dict(classes=7)])
def test_metadata_of_other_types_are_refused(folder, moments, changes):
    with pytest.raises((TypeError, ValueError), match='expected'):
        write(folder, moments, **changes)


@pytest.mark.parametrize('label', [-1, 5, 2**40])
def test_a_label_that_is_not_a_class_is_an_error(folder, moments, label):
    info = ShardInfo(1, 'a-vae', 'cafe', 16, ['a', 'b', 'c', 'd', 'e'], 5, 2)
    write_shard(folder, moments[3:], torch.tensor([3, label]), info)
    with pytest.raises(ValueError, match=f'has the label {label}, but there are 5 classes'):
        LatentDataset(folder)[4]


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('moments', torch.zeros(2, 2, 8)),
        ('moments', torch.zeros(2, 2, 7, 2, 3)),
        ('labels', torch.zeros(1, dtype=torch.long)),
        ('crc32', torch.zeros(2, dtype=torch.long)),
        ('crc32', None),
    ],
)
def test_tensors_of_other_shapes_are_not_a_shard(folder, key, value):
    path = shard(folder, 1)
    with safe_open(path, 'pt') as file:
        tensors, metadata = {k: file.get_tensor(k) for k in TENSORS}, file.metadata()
    tensors[key] = value
    save_file({k: v for k, v in tensors.items() if v is not None}, path, metadata)
    with pytest.raises(ValueError, match='has tensors of the shapes|is not complete'):
        LatentDataset(folder)


@pytest.mark.parametrize('value', [float('nan'), 1e6])  # 1e6 is infinite in float16
def test_latents_that_are_not_finite_are_not_written(tmp_path, moments, value):
    moments[1, 0, 0, 0, 0] = value
    with pytest.raises(UserError, match=r'1 of 3 images of the shard 0 are not finite'):
        write(tmp_path, moments)
    assert not list(tmp_path.iterdir())


def test_latents_that_are_not_finite_are_named_or_skipped(folder, moments, monkeypatch):
    moments[1, :, 0] = float('nan')
    monkeypatch.setattr(Tensor, 'isfinite', lambda tensor: torch.ones_like(tensor, dtype=bool))
    write(folder, moments)  # as another program might
    monkeypatch.undo()
    with pytest.raises(DamagedShardError, match=r'Image 1 of the shard .* not finite'):
        LatentDataset(str(folder))[1]
    item = LatentDataset(str(folder), on_error='skip')[1]
    assert item['inputs'].isfinite().all() and item['data_samples'].label == 2
