"""Errors in data for segmentation, found before training."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image
from toy import write_ade20k

from mmwf.datasets.checks import check_datasets
from mmwf.errors import UserError

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / 'configs/segmentation'
LOADERS = ('train_dataloader', 'val_dataloader')


@pytest.fixture
def root(tmp_path):
    return write_ade20k(tmp_path / 'data')


@pytest.fixture
def cfg(root):
    """A config with three classes; the first one is the background."""
    cfg = Config.fromfile(FOLDER / 'example_own-dataset.py')
    for loader in LOADERS:
        cfg[loader].dataset.data_root = str(root)
    return cfg


def change(path, function):
    """Rewrites an annotation."""
    cv2.imwrite(str(path), function(cv2.imread(str(path), cv2.IMREAD_UNCHANGED)))


def error_message(cfg):
    with pytest.raises(UserError) as error:
        check_datasets(cfg, LOADERS)
    return str(error.value)


def test_the_report_counts_the_pixels_of_each_label(cfg, root):
    report, _ = check_datasets(cfg, LOADERS)
    maps = [cv2.imread(str(p), -1) for p in (root / 'annotations/training').iterdir()]
    counts = np.bincount(np.concatenate([m.ravel() for m in maps]))
    lines = [line.split() for line in report.splitlines()[2:]]
    assert [(int(label), int(pixels)) for label, pixels, *_ in lines] == list(enumerate(counts))
    assert 'train_dataloader: 4 images' in report


def test_an_unknown_label_is_an_error_with_the_histogram(cfg, root):
    change(root / 'annotations/validation/2.png', lambda labels: np.where(labels == 2, 77, labels))
    message = error_message(cfg)
    assert 'Labels [77] are neither among the 3 classes (0 to 2) nor ignore_index=255' in message
    lines = [line for line in message.splitlines() if '!! no class' in line]
    assert len(lines) == 1 and lines[0].split()[:2] == ['77', '256']
    assert 'road' in message and 'reduce_zero_label' not in message


def test_labels_that_start_at_one_get_a_hint(cfg, root):
    for path in root.glob('annotations/*/*.png'):
        change(path, lambda labels: labels + 1)
    assert 'set reduce_zero_label=True' in error_message(cfg)
    for loader in (*LOADERS, 'test_dataloader'):
        cfg[loader].dataset.reduce_zero_label = True
    report, _ = check_datasets(cfg, LOADERS)
    assert 'a stored k is label k - 1' in report


def test_max_images_checks_evenly_spaced_images(cfg, root):
    change(root / 'annotations/training/1.png', lambda labels: labels + 100)
    check_datasets(cfg, LOADERS, max_images=2)  # 0 and 2
    assert 'Labels [100, 101, 102]' in error_message(cfg)


def test_some_pixels_may_be_ignored_but_not_all(cfg, root):
    change(root / 'annotations/training/0.png', lambda labels: np.where(labels, labels, 255))
    check_datasets(cfg, LOADERS)
    for path in root.glob('annotations/training/*.png'):
        change(path, lambda labels: np.full_like(labels, 255))
    assert 'No pixel of the annotations' in error_message(cfg)


@pytest.mark.parametrize('reduce_zero_label, foreground', [(False, 255), (True, 1)])
def test_masks_without_a_second_class_are_an_error(cfg, root, reduce_zero_label, foreground):
    for loader in (*LOADERS, 'test_dataloader'):
        cfg[loader].dataset.reduce_zero_label = reduce_zero_label
    for path in root.glob('annotations/training/*.png'):
        change(path, lambda labels: np.where(labels, foreground, 0))
    assert 'contain only class 0 and ignore_index=255' in error_message(cfg)
    # The other classes may be rare.
    change(root / 'annotations/training/1.png', lambda labels: np.where(labels, 2, 255))
    check_datasets(cfg, LOADERS, max_images=1)


def test_masks_of_a_single_class_may_be_that_class_and_ignored_pixels(cfg, root):
    for loader in (*LOADERS, 'test_dataloader'):
        cfg[loader].dataset.metainfo = dict(classes=('road',))
    cfg.model.decode_head.num_classes = cfg.model.auxiliary_head.num_classes = 1
    for path in root.glob('annotations/*/*.png'):
        change(path, lambda labels: np.where(labels, 255, 0))
    check_datasets(cfg, LOADERS)


def test_class_counts_must_agree(cfg):
    cfg.model.auxiliary_head.num_classes = 150
    message = error_message(cfg)
    assert 'FCNHead has num_classes=150, but the dataset has 3 classes (road, gr' in message
    for loader in (*LOADERS, 'test_dataloader'):
        del cfg[loader].dataset['metainfo']
    assert 'UPerHead has num_classes=3, but the dataset has 0 classes (none)' in error_message(cfg)


def test_classes_have_one_order_everywhere(cfg):
    cfg.val_dataloader.dataset.metainfo = dict(classes=('road', 'sky', 'grass'))
    assert 'Class 1 is grass in one dataset and sky in that of val_dataloader' in error_message(cfg)
    cfg.val_dataloader.dataset.metainfo = dict(classes=('road', 'grass'))
    assert 'Class 2 is sky in one dataset and None in that of val_dataloader' in error_message(cfg)
    cfg.val_dataloader.dataset.type = 'ADE20KDataset'
    cfg.val_dataloader.dataset.metainfo = dict(classes=('sky', 'grass', 'street'))
    assert "ADE20KDataset: new classes ('sky', 'grass', 'street') is not a" in error_message(cfg)


def test_the_ignored_label_is_the_same_everywhere(cfg):
    for part, key in (
        (cfg.model.decode_head, 'ignore_index'),
        (cfg.model.data_preprocessor, 'seg_pad_val'),
        (cfg.val_evaluator, 'ignore_index'),
        (cfg.test_evaluator, 'ignore_index'),
    ):
        part[key] = 0
        message = error_message(cfg)
        assert f'{key} is 0, but ignore_index of the dataset is 255' in message
        part[key] = 255
    check_datasets(cfg, LOADERS)


def test_zero_labels_are_reduced_everywhere_or_nowhere(cfg):
    cfg.val_dataloader.dataset.reduce_zero_label = True
    assert 'False in one dataset and True in that of val_dataloader' in error_message(cfg)
    cfg.val_dataloader.dataset.reduce_zero_label = False
    cfg.train_dataloader.dataset.pipeline[1].reduce_zero_label = True
    with pytest.warns(UserWarning, match='reduce_zero_label'):
        assert 'LoadAnnotations of the pipeline has reduce_zero_label=True' in error_message(cfg)


def test_images_and_annotations_pair_up(cfg, root):
    for name in ('images/training/0.jpg', 'annotations/training/0.png'):
        path = root / name
        (path.parent / 'street').mkdir()
        path.rename(path.parent / 'street' / path.name)
    assert 'train_dataloader: 4 images' in check_datasets(cfg, LOADERS)[0]
    (root / 'images/training/3.jpg').unlink()
    assert '0 of 3 images have no annotation: none.' in error_message(cfg)
    (root / 'annotations/training/1.png').unlink()
    message = error_message(cfg)
    assert '*.jpg: 1 of 3 images have no annotation: 1.' in message
    assert '*.png: 1 of 3 annotations have no image: 3.' in message


def test_the_indices_of_a_palette_image_are_its_labels(cfg, root):
    expected = check_datasets(cfg, LOADERS)
    for path in root.glob('annotations/*/*.png'):
        image = Image.open(path)
        image.putpalette([9, 9, 9, 200, 0, 0, 0, 200, 0])
        image.save(path)
        assert Image.open(path).mode == 'P'
    assert check_datasets(cfg, LOADERS) == expected


def test_no_images_with_the_suffix(cfg):
    for loader in LOADERS:
        cfg[loader].dataset.img_suffix = '.tif'
    assert 'There are no files *.tif in' in error_message(cfg)


def test_listed_files_must_exist(cfg, root):
    for loader in LOADERS:
        cfg[loader].dataset.ann_file = 'list.txt'
    (root / 'list.txt').write_text('0\n1\nlost\n')
    message = error_message(cfg)
    assert 'lists 2 files that do not exist' in message and 'lost.jpg' in message
    (root / 'list.txt').write_text('')
    assert 'list.txt lists no images' in error_message(cfg)


def test_listed_files_are_in_the_data_root_unless_allowed(cfg, root):
    for loader in LOADERS:
        cfg[loader].dataset.ann_file = 'list.txt'
    (root / 'list.txt').write_text('../../../secret\n')
    assert 'outside of the folder of the data' in error_message(cfg)
    cfg.allow_paths_outside = True
    assert 'lists 2 files that do not exist' in error_message(cfg)


def test_an_annotation_is_8_bit_and_of_the_size_of_its_image(cfg, root):
    path = root / 'annotations/training/0.png'
    change(path, lambda labels: labels[:-1])
    assert f'{path} is 39 x 70, but its image' in error_message(cfg)
    change(path, lambda labels: np.stack([labels] * 3, axis=-1))
    assert f'{path} has the colour mode RGB' in error_message(cfg)
    change(path, lambda labels: labels[..., 0].astype(np.uint16) + 300)
    assert f'{path} has the colour mode I;16' in error_message(cfg)
    image = root / 'images/training/0.jpg'
    cv2.imwrite(str(image), cv2.imread(str(image))[:1])
    change(path, lambda labels: labels[:1].astype(np.uint8))
    assert f'{path} is 70, but its image {image} is 1 x 70' in error_message(cfg)


@pytest.mark.parametrize('name', ['annotations/training/1.png', 'images/training/1.jpg'])
def test_damaged_files_are_named(cfg, root, name):
    content = (root / name).read_bytes()
    for damaged in (b'', b'no image', content[: len(content) // 2]):
        (root / name).write_bytes(damaged)
        assert str(root / name) in error_message(cfg)


def test_images_of_different_shapes_cannot_be_one_test_batch(cfg, root):
    cfg.train_dataloader.batch_size = cfg.val_dataloader.batch_size = 2
    message = error_message(cfg)
    assert (
        'val_dataloader has batch_size=2, but its first images are 512 x 704, 512 x 896' in message
    )
    cfg.val_dataloader.dataset.pipeline[1].keep_ratio = False
    check_datasets(cfg, LOADERS)


def test_datasets_in_wrappers_are_checked(cfg, root):
    inner = cfg.train_dataloader.dataset
    cfg.train_dataloader.dataset = dict(
        type='RepeatDataset', times=2, dataset=dict(type='ConcatDataset', datasets=[inner, inner])
    )
    reports = check_datasets(cfg, ('train_dataloader',))
    assert reports[0].count('4 images with annotations') == 2
    change(root / 'annotations/training/0.png', lambda labels: labels + 9)
    assert 'Labels [9, 10, 11]' in error_message(cfg)


def test_only_one_process_per_machine_checks(cfg, root, monkeypatch):
    (root / 'annotations/training/1.png').unlink()
    monkeypatch.setenv('LOCAL_RANK', '1')
    assert check_datasets(cfg, LOADERS) == []
