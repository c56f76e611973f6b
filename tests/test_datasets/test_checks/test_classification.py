"""Errors in data for classification, found before training."""

from pathlib import Path

import pytest

from mmwf.datasets.checks import check_datasets
from mmwf.datasets.toy.digits import write_digits
from mmwf.engine.config import load_config
from mmwf.errors import UserError

ROOT = Path(__file__).parents[3]
LOADERS = ('train_dataloader', 'val_dataloader')


def error_message(cfg):
    with pytest.raises(UserError) as error:
        check_datasets(cfg, LOADERS)
    return str(error.value)


@pytest.fixture
def digits(tmp_path):
    write_digits(tmp_path)
    cfg = load_config(ROOT / 'configs/quickstart/weightformer-w64d8-p4_1xb64-20e_digits-32px.py')
    for loader in LOADERS:
        cfg[loader].dataset.data_root = str(tmp_path)
    return cfg, tmp_path


def test_a_classifier_has_as_many_classes_as_its_data(digits):
    cfg, root = digits
    report, _ = check_datasets(cfg, LOADERS, max_images=5)
    assert '1437 images, 5 of them read' in report
    assert f'{len(list((root / "train/7").iterdir()))}  7' in report
    for wrong in (9, 11):
        cfg.model.head.num_classes = wrong
        message = f'The head has num_classes={wrong}, but the dataset has 10 classes'
        assert message in error_message(cfg)


def test_a_damaged_image_of_a_classifier_is_named(digits):
    cfg, root = digits
    path = next((root / 'val/3').iterdir())
    path.write_bytes(b'no image')
    assert f'Cannot read the image {path}' in error_message(cfg)


def test_the_images_that_are_read_are_spread_over_the_classes(digits):
    cfg, root = digits
    for path in (root / 'val/9').iterdir():
        path.write_bytes(b'no image')
    with pytest.raises(UserError, match='/val/9/'):
        check_datasets(cfg, LOADERS, max_images=20)


@pytest.fixture
def listed(digits):
    """The digits, with the training images in a list: ``listed(lines)`` writes it."""
    cfg, root = digits
    name = next((root / 'train/3').iterdir()).relative_to(root / 'train')

    def write(*labels, name=name):
        (root / 'list.txt').write_text('\n'.join(f'{name} {label}' for label in labels))
        cfg.train_dataloader.dataset.ann_file = 'list.txt'
        return cfg

    return write


def test_a_list_of_images_is_accepted(listed):
    report, _ = check_datasets(listed(*range(10)), LOADERS, max_images=2)
    assert '10 images' in report


@pytest.mark.parametrize('labels', [[-1, 0], [0, 10**9]])
def test_a_label_that_cannot_be_a_class_is_an_error(listed, labels):
    assert 'train_dataloader has ' in error_message(listed(*labels))


@pytest.mark.parametrize('name', ['../val/3/0.png', '/etc/passwd'])
def test_a_listed_image_outside_of_the_folder_is_an_error(listed, name):
    assert 'outside of the folder' in error_message(listed(0, 1, name=name))
