"""Labelled images."""

from collections import Counter

import pytest
import torch
from mmengine.registry import DATASETS

from mmwf.datasets.toy.digits import write_digits
from mmwf.errors import UserError


@pytest.fixture(scope='module')
def digits(tmp_path_factory):
    root = tmp_path_factory.mktemp('digits')
    write_digits(root)
    return root / 'val'


def test_images_are_pixels_with_the_labels_of_their_folders(digits):
    folder = dict(type='mmwf.ImageFolder', data_root=str(digits), image_size=16)
    rgb = DATASETS.build(folder)
    grey = DATASETS.build(dict(folder, channels=1))
    assert len(rgb) == 360
    labels = Counter(rgb[i]['data_samples'].label for i in range(len(rgb)))
    assert set(labels) == set(range(10)) and min(labels.values()) >= 34
    assert rgb[5]['inputs'].shape == (3, 16, 16) and rgb[5]['inputs'].dtype == torch.uint8
    assert torch.equal(rgb[5]['inputs'][:1], grey[5]['inputs'])  # the scans are grey


def test_images_are_flipped_horizontally(digits):
    folder = dict(type='mmwf.ImageFolder', data_root=str(digits), image_size=32)
    plain = DATASETS.build(folder)[0]['inputs']
    mirrored = DATASETS.build(dict(folder, flip_prob=1.0))[0]['inputs']
    assert torch.equal(mirrored, plain.flip(2)) and not torch.equal(mirrored, plain)


def test_a_folder_without_classes_is_refused(tmp_path):
    with pytest.raises(UserError, match='class folder.*Expected images as .*/CLASS/'):
        DATASETS.build(dict(type='mmwf.ImageFolder', data_root=str(tmp_path), image_size=8))


def test_a_damaged_image_is_named(tmp_path):
    (tmp_path / 'class').mkdir()
    (tmp_path / 'class/broken.png').write_bytes(b'no image')
    dataset = dict(type='mmwf.ImageFolder', data_root=str(tmp_path), image_size=8)
    with pytest.raises(UserError, match=r'Cannot read the image .*broken\.png'):
        DATASETS.build(dataset)[0]
