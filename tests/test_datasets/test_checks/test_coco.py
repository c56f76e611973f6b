"""Errors in a dataset in COCO's format, found before training."""

import contextlib
import json
from pathlib import Path

import pytest
from mmengine.config import Config
from toy import CLASSES, shrink_detection, write_coco

from mmwf.datasets.checks import check_coco
from mmwf.errors import UserError

CONFIG = (
    Path(__file__).parents[3]
    / 'configs/detection/vitdet-cascade-mask-rcnn_weightformer-tiny-p16_16xb4-amp-lsj-100e_coco.py'
)
LOADERS = ('train_dataloader', 'val_dataloader')


@pytest.fixture
def data(tmp_path):
    return write_coco(tmp_path)


@pytest.fixture
def cfg(data):
    return shrink_detection(Config.fromfile(CONFIG), data)


@pytest.fixture
def edit(data):
    """Changes the annotations of a split: ``with edit('train') as content: ...``"""

    @contextlib.contextmanager
    def edit(split='train'):
        path = data / f'annotations/instances_{split}.json'
        content = json.loads(path.read_text())
        yield content
        path.write_text(json.dumps(content))

    return edit


def test_valid_data_pass(cfg):
    check_coco(cfg, LOADERS)


def test_a_class_without_category(cfg):
    cfg.val_dataloader.dataset.metainfo.classes = ('yellow', 'triangle')
    with pytest.raises(UserError, match='val_dataloader: .* without a category: .*triangle') as e:
        check_coco(cfg, LOADERS)
    expected = 'Expected classes: 2 (yellow, triangle); got categories: 2 (yellow, cyan) in '
    assert expected in str(e.value) and 'instances_val.json' in str(e.value)
    assert 'Set val_dataloader.dataset.metainfo.classes' in str(e.value)


def test_cocos_own_classes_are_the_default(cfg):
    del cfg.train_dataloader.dataset['metainfo']
    with pytest.raises(UserError, match=r'without a category: 80 \(person, '):
        check_coco(cfg, LOADERS)


def test_classes_in_another_order_would_swap_names(cfg):
    cfg.train_dataloader.dataset.metainfo.classes = CLASSES[::-1]
    with pytest.raises(UserError, match='not in the order of the categories'):
        check_coco(cfg, LOADERS)


def test_other_categories_are_ignored(cfg, edit):
    for split in ('train', 'val'):
        with edit(split) as content:
            content['categories'].insert(1, dict(id=9, name='circle'))
    check_coco(cfg, LOADERS)


@pytest.mark.parametrize('head', ['bbox_head', 'mask_head'])
def test_a_head_with_another_number_of_classes(cfg, head):
    part = cfg.model.roi_head[head]
    (part[1] if head == 'bbox_head' else part).num_classes = 80
    where = r'bbox_head\.1' if head == 'bbox_head' else 'mask_head'
    with pytest.raises(
        UserError, match=rf'model\.roi_head\.{where}\.num_classes is 80.*2 \(yellow'
    ):
        check_coco(cfg, LOADERS)


def test_a_missing_image(cfg, data):
    (data / 'val/2.png').unlink()
    with pytest.raises(UserError, match=r'val_dataloader: 1 of the 4 images .*val/2\.png'):
        check_coco(cfg, LOADERS)


def test_nothing_left_after_filtering(cfg, edit):
    cfg.train_dataloader.dataset.filter_cfg.min_size = 48
    with edit() as content:
        content['annotations'] = [a for a in content['annotations'] if a['image_id'] == 1]
    with pytest.raises(
        UserError, match='no image of .* is left to use. Of 4 images, 1 are smaller'
    ) as e:
        check_coco(cfg, LOADERS)
    assert '3 contain none of the classes 2 (yellow, cyan)' in str(e.value)


def test_testing_filters_no_images_and_needs_no_annotations(cfg, edit):
    cfg.val_dataloader.dataset.filter_cfg = dict(filter_empty_gt=True, min_size=1000)
    check_coco(cfg, LOADERS)
    with edit('val') as content:
        del content['annotations']
    check_coco(cfg, LOADERS)


@pytest.mark.parametrize(
    'box', [[50, 2, 20, 20], [-5, 2, 20, 20], [2, 30, 20, 20], [20, 20, -5, 5], [99, 99, 3, 3]]
)
def test_a_box_beyond_its_image(cfg, edit, box):
    with edit() as content:
        content['annotations'][0]['bbox'] = box  # of the first image, 64 x 40
    with pytest.raises(UserError, match=r'1 of .* Annotation 1 .*0\.png is 64 x 40 pixels'):
        check_coco(cfg, LOADERS)
    cfg.allow_boxes_outside = True
    check_coco(cfg, LOADERS)


@pytest.mark.parametrize('box', [None, [1, 2, 3], [float('nan'), 2, 20, 20], 'abcd', ['a'] * 4])
def test_an_invalid_box(cfg, edit, box):
    with edit() as content:
        content['annotations'][0]['bbox'] = box
    with pytest.raises(UserError, match=r'bbox of entry 1 of the annotations .*Expected \[x, y, w'):
        check_coco(cfg, LOADERS)


@pytest.mark.parametrize(
    ('kind', 'field'),
    [('images', 'width'), ('annotations', 'area'), ('annotations', 'iscrowd')]
    + [('annotations', 'segmentation')],
)
def test_an_entry_without_a_required_field(cfg, edit, kind, field):
    with edit('val') as content:
        del content[kind][1][field]
    where = rf'val_dataloader: entry 2 of the {kind} in .*instances_val.json has no {field}'
    with pytest.raises(UserError, match=where):
        check_coco(cfg, LOADERS)


def test_crowds_need_not_be_marked_in_training(cfg, edit):
    with edit() as content:
        for annotation in content['annotations']:
            del annotation['iscrowd']
    check_coco(cfg, LOADERS)


def test_masks_are_needed_where_they_are_loaded(cfg, edit):
    with edit() as content:
        content['annotations'][2]['segmentation'] = []
    with pytest.raises(UserError, match='entry 3 of the annotations .* has no segmentation'):
        check_coco(cfg, LOADERS)
    for transform in cfg.train_dataloader.dataset.pipeline:
        transform.pop('with_mask', None)
    check_coco(cfg, LOADERS)


def test_rounding_and_empty_boxes_are_fine(cfg, edit):
    with edit() as content:
        content['annotations'][0]['bbox'] = [-0.4, 0, 64.9, 40]
        content['annotations'][1]['bbox'] = [3, 3, 0, 5]
    check_coco(cfg, LOADERS)


@pytest.mark.parametrize(
    ('key', 'message'),
    [('image_id', 'images of the file'), ('category_id', 'categories of the file')],
)
def test_an_annotation_without_image_or_category(cfg, edit, key, message):
    with edit() as content:
        content['annotations'][0][key] = 77
    with pytest.raises(UserError, match=f'annotation 1 .* has the {key} 77, .*{message}'):
        check_coco(cfg, LOADERS)


def test_a_file_of_another_format(cfg, data):
    path = data / 'annotations/instances_train.json'
    path.write_text('[1, 2]')
    with pytest.raises(UserError, match="not in COCO's format: .*got a list"):
        check_coco(cfg, LOADERS)
    path.write_text('{"images": ')
    with pytest.raises(UserError, match='cannot read .*instances_train.json as JSON'):
        check_coco(cfg, LOADERS)
    cfg.train_dataloader.dataset.ann_file = 'annotations'
    with pytest.raises(UserError, match='cannot read .*annotations as JSON'):
        check_coco(cfg, LOADERS)


def test_an_evaluator_with_other_annotations(cfg):
    cfg.val_evaluator.ann_file = 'data/coco/annotations/instances_val2017.json'
    with pytest.raises(
        UserError, match=r'val_evaluator.ann_file is data/coco/.*instances_val.json'
    ):
        check_coco(cfg, LOADERS)


def test_datasets_in_wrappers_are_checked(cfg, edit):
    inner = cfg.train_dataloader.dataset
    cfg.train_dataloader.dataset = dict(
        type='RepeatDataset', times=2, dataset=dict(type='ConcatDataset', datasets=[inner])
    )
    check_coco(cfg, LOADERS)
    with edit() as content:
        content['images'][3]['file_name'] = 'lost.png'
    with pytest.raises(UserError, match='lost.png'):
        check_coco(cfg, LOADERS)


def test_lvis_is_not_checked(cfg, edit):
    with edit() as content:
        del content['images'][0]['file_name'], content['annotations'][0]['iscrowd']
    cfg.train_dataloader.dataset.type = 'LVISV1Dataset'
    check_coco(cfg, LOADERS)


def test_only_one_process_per_machine_checks(cfg, data, monkeypatch):
    (data / 'val/2.png').unlink()
    monkeypatch.setenv('LOCAL_RANK', '1')
    check_coco(cfg, LOADERS)


@pytest.mark.parametrize('kind', ['relative', 'absolute'])
def test_an_image_outside_of_the_data_root_is_an_error_unless_allowed(cfg, data, edit, kind):
    (data / 'train/0.png').rename(data.parent / f'{data.name}.png')
    outside = f'../../{data.name}.png' if kind == 'relative' else f'{data.parent}/{data.name}.png'
    with edit() as content:
        content['images'][0]['file_name'] = outside
    with pytest.raises(UserError, match='outside of the folder of the data'):
        check_coco(cfg, LOADERS)
    cfg.allow_paths_outside = True
    check_coco(cfg, LOADERS)


def test_a_mask_that_would_fill_the_memory_is_an_error(cfg, edit):
    with edit() as content:
        mask = dict(size=[100_000, 100_000], counts=[0, 10**10])
        content['annotations'][0]['segmentation'] = mask
    with pytest.raises(UserError, match=r'mask of annotation 1 has the size \[100000, 100000\]'):
        check_coco(cfg, LOADERS)


def test_a_file_that_is_nested_too_deeply_is_an_error(cfg, data):
    (data / 'annotations/instances_train.json').write_text('[' * 100_000)
    with pytest.raises(UserError, match='cannot read .*instances_train.json as JSON'):
        check_coco(cfg, LOADERS)


@pytest.mark.parametrize('kind', ['images', 'categories', 'annotations'])
@pytest.mark.parametrize('value', [None, {}, 'abc', 5, [5]])
def test_entries_that_are_not_lists_of_objects_are_an_error(cfg, edit, kind, value):
    with edit() as content:
        content[kind] = value
    with pytest.raises(UserError, match=f'list of {kind}|entry 1 of the {kind}'):
        check_coco(cfg, LOADERS)
