"""Data for segmentation and classification that do not fit their config are found and named."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image
from toy import write_ade20k

from mmwf.apis import environment, train
from mmwf.apis.check_dataset import check_datasets, main
from mmwf.apis.environment import UserError, load_config
from mmwf.datasets.digits import write_digits

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / 'configs/segmentation'
LOADERS = ('train_dataloader', 'val_dataloader')


@pytest.fixture
def root(tmp_path):
    return write_ade20k(tmp_path / 'data')


@pytest.fixture
def cfg(root):
    """Three classes, the first one of them the background."""
    cfg = Config.fromfile(FOLDER / 'example_own-dataset.py')
    for loader in LOADERS:
        cfg[loader].dataset.data_root = str(root)
    return cfg


def change(path, function):
    """Rewrites an annotation."""
    cv2.imwrite(str(path), function(cv2.imread(str(path), cv2.IMREAD_UNCHANGED)))


def complaint(cfg):
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


def test_a_label_that_is_no_class_is_an_error_with_the_histogram(cfg, root):
    change(root / 'annotations/validation/2.png', lambda labels: np.where(labels == 2, 77, labels))
    message = complaint(cfg)
    assert 'Labels [77] are neither one of the 3 classes (0 to 2) nor the ignored 255' in message
    lines = [line for line in message.splitlines() if '!! no class' in line]
    assert len(lines) == 1 and lines[0].split()[:2] == ['77', '256']
    assert 'road' in message and 'reduce_zero_label' not in message


def test_classes_that_begin_at_one_get_a_hint(cfg, root):
    for path in root.glob('annotations/*/*.png'):
        change(path, lambda labels: labels + 1)
    assert 'set reduce_zero_label=True' in complaint(cfg)
    for loader in (*LOADERS, 'test_dataloader'):
        cfg[loader].dataset.reduce_zero_label = True
    report, _ = check_datasets(cfg, LOADERS)
    assert 'a stored k is label k - 1' in report


def test_a_sample_of_the_images_is_enough_if_asked_for(cfg, root):
    change(root / 'annotations/training/1.png', lambda labels: labels + 100)
    check_datasets(cfg, LOADERS, max_images=2)  # 0 and 2
    assert 'Labels [100, 101, 102]' in complaint(cfg)


def test_training_looks_at_a_sample_before_it_builds_anything(cfg, root, tmp_path, monkeypatch):
    def build_runner(cfg):
        raise InterruptedError

    monkeypatch.setattr(environment, 'build_runner', build_runner)
    config = str(tmp_path / 'mine.py')
    cfg.dump(config)
    change(root / 'annotations/validation/1.png', lambda labels: labels + 100)
    with pytest.raises(UserError, match=r'Labels \[100, 101, 102\]'):
        train.main([config])
    monkeypatch.setattr(train, 'SAMPLE', 2)  # 0 and 2
    with pytest.raises(InterruptedError):
        train.main([config])


def test_ignored_pixels_are_no_mistake_but_nothing_else_is(cfg, root):
    change(root / 'annotations/training/0.png', lambda labels: np.where(labels, labels, 255))
    check_datasets(cfg, LOADERS)
    for path in root.glob('annotations/training/*.png'):
        change(path, lambda labels: np.full_like(labels, 255))
    assert 'No pixel of the annotations' in complaint(cfg)


@pytest.mark.parametrize('reduce_zero_label, foreground', [(False, 255), (True, 1)])
def test_masks_without_a_second_class_are_an_error(cfg, root, reduce_zero_label, foreground):
    for loader in (*LOADERS, 'test_dataloader'):
        cfg[loader].dataset.reduce_zero_label = reduce_zero_label
    for path in root.glob('annotations/training/*.png'):
        change(path, lambda labels: np.where(labels, foreground, 0))
    assert 'show the first class and the ignored 255 only' in complaint(cfg)
    # It may be rare.
    change(root / 'annotations/training/1.png', lambda labels: np.where(labels, 2, 255))
    check_datasets(cfg, LOADERS, max_images=1)


def test_class_counts_must_agree(cfg):
    cfg.model.auxiliary_head.num_classes = 150
    message = complaint(cfg)
    assert 'FCNHead has num_classes=150, and the data set has 3 classes (road, gr' in message
    for loader in (*LOADERS, 'test_dataloader'):
        del cfg[loader].dataset['metainfo']
    assert 'UPerHead has num_classes=3, and the data set has 0 classes (none)' in complaint(cfg)


def test_classes_have_one_order_everywhere(cfg):
    cfg.val_dataloader.dataset.metainfo = dict(classes=('road', 'sky', 'grass'))
    assert 'Class 1 is grass in one data set and sky in that of val_dataloader' in complaint(cfg)
    cfg.val_dataloader.dataset.metainfo = dict(classes=('road', 'grass'))
    assert 'Class 2 is sky in one data set and None in that of val_dataloader' in complaint(cfg)
    cfg.val_dataloader.dataset.type = 'ADE20KDataset'
    cfg.val_dataloader.dataset.metainfo = dict(classes=('sky', 'grass', 'street'))
    assert "ADE20KDataset: new classes ('sky', 'grass', 'street') is not a subset" in complaint(cfg)


def test_the_ignored_label_is_the_same_everywhere(cfg):
    for part, key in (
        (cfg.model.decode_head, 'ignore_index'),
        (cfg.model.data_preprocessor, 'seg_pad_val'),
        (cfg.val_evaluator, 'ignore_index'),
        (cfg.test_evaluator, 'ignore_index'),
    ):
        part[key] = 0
        message = complaint(cfg)
        assert f'{key} is 0, and ignore_index of the data set is 255' in message
        part[key] = 255
    check_datasets(cfg, LOADERS)


def test_zero_labels_are_reduced_everywhere_or_nowhere(cfg):
    cfg.val_dataloader.dataset.reduce_zero_label = True
    assert 'False in one data set and True in that of val_dataloader' in complaint(cfg)
    cfg.val_dataloader.dataset.reduce_zero_label = False
    cfg.train_dataloader.dataset.pipeline[1].reduce_zero_label = True
    with pytest.warns(UserWarning, match='reduce_zero_label'):
        assert 'LoadAnnotations of the pipeline has reduce_zero_label=True' in complaint(cfg)


def test_images_and_annotations_pair_up(cfg, root):
    for name in ('images/training/0.jpg', 'annotations/training/0.png'):
        path = root / name
        (path.parent / 'street').mkdir()
        path.rename(path.parent / 'street' / path.name)
    assert 'train_dataloader: 4 images' in check_datasets(cfg, LOADERS)[0]
    (root / 'images/training/3.jpg').unlink()
    assert '0 of them without annotation: none' in complaint(cfg)
    (root / 'annotations/training/1.png').unlink()
    message = complaint(cfg)
    assert '3 images *.jpg, 1 of them without annotation: 1.' in message
    assert '3 annotations *.png, 1 of them without image: 3.' in message


def test_the_numbers_of_a_palette_image_are_its_labels(cfg, root):
    expected = check_datasets(cfg, LOADERS)
    for path in root.glob('annotations/*/*.png'):
        image = Image.open(path)
        image.putpalette([9, 9, 9, 200, 0, 0, 0, 200, 0])
        image.save(path)
        assert Image.open(path).mode == 'P'
    assert check_datasets(cfg, LOADERS) == expected


def test_images_with_another_suffix_are_told_apart_from_none(cfg):
    for loader in LOADERS:
        cfg[loader].dataset.img_suffix = '.tif'
    assert 'There is no file *.tif in' in complaint(cfg)


def test_files_of_a_list_are_there(cfg, root):
    for loader in LOADERS:
        cfg[loader].dataset.ann_file = 'list.txt'
    (root / 'list.txt').write_text('0\n1\nlost\n')
    message = complaint(cfg)
    assert 'lists 2 files that are not there' in message and 'lost.jpg' in message
    (root / 'list.txt').write_text('')
    assert 'list.txt lists no image' in complaint(cfg)


def test_an_annotation_has_the_size_of_its_image_and_one_number_for_each_pixel(cfg, root):
    path = root / 'annotations/training/0.png'
    change(path, lambda labels: labels[:-1])
    assert f'{path} is 39 x 70, and its image' in complaint(cfg)
    change(path, lambda labels: np.stack([labels] * 3, axis=-1))
    assert f'{path} has the colour mode RGB' in complaint(cfg)
    change(path, lambda labels: labels[..., 0].astype(np.uint16) + 300)
    assert f'{path} has the colour mode I;16' in complaint(cfg)
    image = root / 'images/training/0.jpg'
    cv2.imwrite(str(image), cv2.imread(str(image))[:1])
    change(path, lambda labels: labels[:1].astype(np.uint8))
    assert f'{path} is 70, and its image {image} is 1 x 70' in complaint(cfg)


@pytest.mark.parametrize('name', ['annotations/training/1.png', 'images/training/1.jpg'])
def test_damaged_files_are_named(cfg, root, name):
    content = (root / name).read_bytes()
    for damaged in (b'', b'no image', content[: len(content) // 2]):
        (root / name).write_bytes(damaged)
        assert str(root / name) in complaint(cfg)


def test_only_images_of_one_shape_are_tested_together(cfg, root):
    cfg.train_dataloader.batch_size = cfg.val_dataloader.batch_size = 2
    message = complaint(cfg)
    assert (
        'val_dataloader has batch_size=2, and the first images are 512 x 704, 512 x 896' in message
    )
    cfg.val_dataloader.dataset.pipeline[1].keep_ratio = False
    check_datasets(cfg, LOADERS)


def test_data_sets_in_wrappers_are_checked(cfg, root):
    inner = cfg.train_dataloader.dataset
    cfg.train_dataloader.dataset = dict(
        type='RepeatDataset', times=2, dataset=dict(type='ConcatDataset', datasets=[inner, inner])
    )
    reports = check_datasets(cfg, ('train_dataloader',))
    assert reports[0].count('4 images with annotations') == 2
    change(root / 'annotations/training/0.png', lambda labels: labels + 9)
    assert 'Labels [9, 10, 11]' in complaint(cfg)


def test_only_one_process_of_a_machine_looks(cfg, root, monkeypatch):
    (root / 'annotations/training/1.png').unlink()
    monkeypatch.setenv('LOCAL_RANK', '1')
    assert check_datasets(cfg, LOADERS) == []


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
    cfg.model.head.num_classes = 9
    assert 'The head has num_classes=9, and the data set has 10 classes' in complaint(cfg)


def test_a_damaged_image_of_a_classifier_is_named(digits):
    cfg, root = digits
    path = next((root / 'val/3').iterdir())
    path.write_bytes(b'no image')
    assert f'Cannot read the image {path}' in complaint(cfg)


def test_the_tool_prints_reports_or_refuses_what_it_cannot_check(cfg, tmp_path, capsys):
    cfg.test_dataloader = cfg.val_dataloader
    cfg.dump(tmp_path / 'mine.py')
    main([str(tmp_path / 'mine.py'), '--max-images', '2'])
    out = capsys.readouterr().out
    assert 'labels of 2 of them' in out and 'test_dataloader: 4 images' in out
    (tmp_path / 'other.py').write_text("default_scope = 'mmengine'")
    with pytest.raises(UserError, match='Expected a config of mmpretrain or mmdet or mmseg'):
        main([str(tmp_path / 'other.py')])
    with pytest.raises(UserError, match='--max-images of 1 or more, got -1'):
        main([str(tmp_path / 'mine.py'), '--max-images', '-1'])
