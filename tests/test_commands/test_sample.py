"""``mmwf sample``: its files, its grid, its errors, and several processes."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from helpers import run
from mmengine.config import Config
from mmengine.registry import MODELS

from mmwf.commands import sample
from mmwf.errors import UserError

ROOT = Path(__file__).parents[2]
(DIGITS,) = (ROOT / 'configs/quickstart').glob('dit_*.py')


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """Config and checkpoint of a small model with random weights."""
    folder = tmp_path_factory.mktemp('model')
    config = folder / 'toy.py'
    config.write_text(
        f'_base_ = {str(DIGITS)!r}\n'
        'arch = dict(_delete_=True, embed_dims=8, depth=2, mlp_ratio=2)\n'
        'model = dict(denoiser=dict(arch=arch), test_cfg=dict(num_steps=2))\n'
    )
    torch.manual_seed(0)
    model = MODELS.build(Config.fromfile(config).model)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    torch.save(dict(state_dict=model.state_dict()), folder / 'model.pth')
    return str(config), str(folder / 'model.pth')


def images(folder):
    return {p.name: cv2.imread(str(p)).astype(int) for p in Path(folder).glob('0*.png')}


def differs(one, two):
    assert one.keys() == two.keys()
    return any(np.abs(one[name] - two[name]).max() > 1 for name in one)


def test_the_images_depend_on_the_seed_and_not_on_the_batch_size(trained, tmp_path):
    def images_of(name, *args):
        folder = str(tmp_path / name)
        sample.main(
            [*trained, '--out', folder, '--classes', '3', '8', '--num-per-class', '3', *args]
        )
        return images(folder)

    first = images_of('first', '--seed', '5')
    assert sorted(first) == [f'0000{i}_class-{3 if i < 3 else 8}.png' for i in range(6)]
    assert all(image.shape == (8, 8, 3) for image in first.values())
    assert not differs(first, images_of('again', '--seed', '5', '--batch-size', '4'))
    assert differs(first, images_of('other', '--seed', '6'))
    assert differs(first, images_of('guided', '--seed', '5', '--cfg-scale', '4'))
    assert differs(first, images_of('ddpm', '--seed', '5', '--sampler', 'ddpm', '--steps', '3'))
    grid = cv2.imread(str(tmp_path / 'first' / 'grid.png'))
    assert min(grid.shape[:2]) > 100 and grid.std() > 10


def test_seed_0_replaces_another_seed_of_the_config(trained, tmp_path):
    def images_of(name, *args):
        sample.main(
            [*trained, '--out', str(tmp_path / name), '--classes', '3', '--num-per-class', '1']
            + list(args)
        )
        return images(tmp_path / name)

    of_config = ['--cfg-options', 'model.test_cfg.seed=5']
    first = images_of('first', '--seed', '0')
    assert not differs(first, images_of('again', '--seed', '0', *of_config))
    assert differs(first, images_of('other', *of_config))


def test_a_class_that_is_named_twice_is_sampled_once(trained, tmp_path):
    sample.main([*trained, '--out', str(tmp_path), '--classes', '3', '3', '--num-per-class', '2'])
    assert sorted(images(tmp_path)) == ['00000_class-3.png', '00001_class-3.png']


def test_the_grid_shows_the_first_samples_of_the_first_classes(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(sample, 'GRID_SIZE', 2)
    grids = []
    monkeypatch.setattr('mmwf.commands.sample.draw_generation', lambda *args: grids.append(args))
    sample.main(
        [*trained, '--out', str(tmp_path), '--classes', '7', '1', '4', '--num-per-class', '3']
    )
    ((samples, _, columns),) = grids
    assert [s['label'] for s in samples] == [7, 7, 1, 1] and columns == 2
    files = [tmp_path / name for name in ('00001_class-7.png', '00003_class-1.png')]
    for file, shown in zip(files, samples[1:3], strict=True):
        assert (cv2.imread(str(file)).transpose(2, 0, 1) == shown['image'].numpy()).all()  # grey


@pytest.mark.slow
def test_two_processes_sample_the_same_images_as_one(trained, tmp_path):
    args = ['--classes', '0', '1', '--num-per-class', '3']
    sample.main([*trained, '--out', str(tmp_path / 'one'), *args])
    log = run('bash', 'tools/dist_sample.sh', *trained, 2, '--out', tmp_path / 'two', *args)
    assert 'batch 1/1: 100%' in log and (tmp_path / 'two' / 'grid.png').exists()
    assert not differs(images(tmp_path / 'one'), images(tmp_path / 'two'))


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['--classes', '10'], 'labels from 0 to 9 .*got 10'),
        (['--classes', '1', '--steps', '30'], 'divide 1000.*got 30'),
        (['--classes', '1', '--num-per-class', '0'], '1 or more'),
        (
            ['--classes', '1', '--cfg-options', 'model.denoiser.label_drop_rate=0.0'],
            'label_drop_rate > 0',
        ),
        (
            ['--classes', '1', '--cfg-options', 'model.denoiser.arch.embed_dims=16'],
            'does not fit the model of the config: .* mismatched',
        ),
        (
            [
                '--classes',
                '1',
                '--cfg-options',
                'model.vae._delete_=True',
                'model.vae.path=/nowhere/vae',
            ],
            'hf download',
        ),
    ],
)
def test_a_mistake_is_reported_before_sampling(trained, tmp_path, args, message):
    with pytest.raises(UserError, match=message):
        sample.main([*trained, '--out', str(tmp_path / 'out'), *args])
    assert not (tmp_path / 'out').exists()


def test_a_config_without_a_diffusion_model_is_rejected(trained, tmp_path):
    config = 'configs/classification/weightformer-tiny-p16_8xb256_in1k.py'
    with pytest.raises(UserError, match='configs/generation'):
        sample.main([str(ROOT / config), trained[1], '--classes', '1', '--out', str(tmp_path)])
