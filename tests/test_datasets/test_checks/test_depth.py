"""Errors in data for depth estimation, found before training."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from toy_depth import shrink_depth, write_nyu

from mmwf.datasets.checks import check_datasets
from mmwf.errors import UserError

(CONFIG,) = (Path(__file__).parents[3] / 'configs/depth').glob('*.py')
LOADERS = ('train_dataloader', 'val_dataloader')


@pytest.fixture
def nyu(tmp_path):
    return write_nyu(tmp_path / 'nyu')


@pytest.fixture
def cfg(nyu):
    return shrink_depth(Config.fromfile(CONFIG), nyu)


def error_message(cfg):
    with pytest.raises(UserError) as error:
        check_datasets(cfg, LOADERS)
    return str(error.value)


def test_the_report_gives_the_range_of_the_depths(cfg, nyu):
    report, _ = check_datasets(cfg, LOADERS)
    maps = [cv2.imread(str(p), -1) / 1000 for p in (nyu / 'annotations/train').iterdir()]
    depths = np.stack(maps)[:, 5:]
    assert '3 images with depth maps, 3 of them read' in report
    assert f'{depths.min():.2f} to {depths.max():.2f} m' in report
    assert '7.8% of the pixels without depth' in report  # 5 of 64 rows


def test_without_the_data_the_error_says_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    message = error_message(Config.fromfile(CONFIG))
    assert 'train_dataloader expects data/nyu, which does not exist' in message
    assert 'get nyu.zip' in message and 'data/nyu/{images,annotations}/{train,test}/' in message


def test_an_image_without_a_depth_map_is_an_error(cfg, nyu):
    (nyu / 'annotations/test/kitchen_0001.png').unlink()
    assert 'val_dataloader: 3 images' in error_message(cfg)
    assert 'of which 1 have no depth map, such as' in error_message(cfg)


def test_a_folder_without_images_is_an_error(cfg, nyu):
    for path in (nyu / 'images/train').iterdir():
        path.unlink()
    assert 'train_dataloader: 0 images' in error_message(cfg)


def test_maps_without_any_depth_are_an_error_unless_others_have_some(cfg, nyu):
    first, *others = sorted((nyu / 'annotations/train').iterdir())
    cv2.imwrite(str(first), np.zeros((64, 96), np.uint16))
    assert '38.5% of the pixels without depth' in check_datasets(cfg, LOADERS)[0]
    for path in others:
        cv2.imwrite(str(path), np.zeros((64, 96), np.uint16))
    assert 'the median depth is 0 m' in error_message(cfg)


@pytest.mark.parametrize('factor', [1.0, 1e-6])
def test_depths_in_another_unit_are_an_error(cfg, factor):
    for step in cfg.train_dataloader.dataset.pipeline:
        if step.type == 'LoadDepthAnnotation':
            step.depth_rescale_factor = factor
    assert 'Set depth_rescale_factor of LoadDepthAnnotation' in error_message(cfg)


def test_a_depth_map_of_another_size_is_an_error(cfg, nyu):
    path = nyu / 'annotations/train/kitchen_0000.png'
    cv2.imwrite(str(path), cv2.imread(str(path), -1)[:50])
    message = error_message(cfg)
    assert 'has the shape (50, 96)' in message and 'is 64 x 96' in message


@pytest.mark.parametrize(
    'name', ['images/train/kitchen_0000.jpg', 'annotations/train/kitchen_0000.png']
)
def test_a_damaged_file_is_an_error(cfg, nyu, name):
    (nyu / name).write_bytes(b'not an image')
    assert 'Cannot read' in error_message(cfg) and 'kitchen_0000' in error_message(cfg)
