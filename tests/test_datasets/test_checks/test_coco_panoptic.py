"""Errors in a dataset in COCO's panoptic format, found before training."""

import contextlib
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from toy import shrink_detection, write_coco
from toy_heads import write_panoptic

from mmwf.datasets.checks import check_coco, check_data
from mmwf.errors import UserError

FOLDER = Path(__file__).parents[3] / 'configs/detection'
CONFIG = FOLDER / 'mask2former_weightformer-tiny-p16_8xb2-lsj-50e_coco-panoptic.py'
LOADERS = ('train_dataloader', 'val_dataloader')


@pytest.fixture
def data(tmp_path):
    return write_panoptic(write_coco(tmp_path))


@pytest.fixture
def cfg(data):
    return shrink_detection(Config.fromfile(CONFIG), data)


@pytest.fixture
def edit(data):
    """Changes the annotations of a split: ``with edit('train') as content: ...``"""

    @contextlib.contextmanager
    def edit(split='train'):
        path = data / f'annotations/panoptic_{split}.json'
        content = json.loads(path.read_text())
        yield content
        path.write_text(json.dumps(content))

    return edit


def test_valid_data_pass(cfg, data):
    check_data(cfg, LOADERS)
    check_coco(cfg, LOADERS)
    instances = dict(type='CocoMetric', ann_file=str(data / 'annotations/instances_val.json'))
    cfg.val_evaluator = [cfg.val_evaluator, instances]
    check_coco(cfg, LOADERS)


@pytest.mark.parametrize('missing', ['panoptic_train.json', 'panoptic_train'])
def test_missing_annotations_are_named_and_the_help_says_how_to_get_them(cfg, data, missing):
    (data / 'annotations' / missing).rename(data / 'elsewhere')
    cfg.data_help = cfg.data_help['data/coco']  # as if these data were there
    with pytest.raises(UserError, match=rf'train_dataloader expects .*{missing}, which') as error:
        check_data(cfg, LOADERS)
    assert 'panoptic_annotations_trainval2017.zip from cocodataset.org' in str(error.value)
    assert 'panoptic_train2017.zip and panoptic_val2017.zip: unpack these too' in str(error.value)


def test_annotations_of_instances_are_not_panoptic(cfg):
    cfg.train_dataloader.dataset.ann_file = 'annotations/instances_train.json'
    with pytest.raises(
        UserError, match=r'entry 1 .* no file_name, no segments.* panoptic format\?'
    ):
        check_coco(cfg, LOADERS)


def test_categories_say_whether_they_are_things(cfg, edit):
    with edit() as content:
        del content['categories'][1]['isthing']
    with pytest.raises(UserError, match='entry 2 of the categories .* has no isthing'):
        check_coco(cfg, LOADERS)


def test_things_must_precede_stuff(cfg, edit):
    with edit() as content:
        content['categories'][0]['isthing'], content['categories'][1]['isthing'] = 0, 1
    with pytest.raises(UserError, match='of stuff precedes one of things'):
        check_coco(cfg, LOADERS)


@pytest.mark.parametrize(
    ('key', 'classes'),
    [('num_things_classes', r'1 \(yellow\) classes'), ('num_stuff_classes', r'1 \(cyan\) stuff')],
)
@pytest.mark.parametrize('head', ['panoptic_head', 'panoptic_fusion_head'])
def test_a_head_with_another_number_of_classes(cfg, head, key, classes):
    cfg.model[head][key] = 80
    with pytest.raises(UserError, match=rf'model\.{head}\.{key} is 80, .*{classes}.*{key}'):
        check_coco(cfg, LOADERS)


def test_without_panoptic_data_all_classes_are_things(data):
    name = CONFIG.name.replace('-panoptic', '')
    cfg = shrink_detection(Config.fromfile(FOLDER / name), data)
    check_coco(cfg, LOADERS)
    cfg.model.panoptic_head.num_stuff_classes = 53
    with pytest.raises(UserError, match=r'num_stuff_classes is 53, .*has 0 \(\) stuff classes'):
        check_coco(cfg, LOADERS)


def test_a_missing_map(cfg, data):
    (data / 'annotations/panoptic_val/2.png').unlink()
    with pytest.raises(UserError, match=r'val_dataloader: 1 of the 4 panoptic maps .*val/2\.png'):
        check_coco(cfg, LOADERS)


def test_a_dataset_without_a_folder_of_maps(cfg):
    del cfg.val_dataloader.dataset.data_prefix['seg']
    with pytest.raises(UserError, match=r'val_dataloader: expected dataset\.data_prefix\.seg'):
        check_coco(cfg, LOADERS)


def test_a_damaged_map(cfg, data):
    (data / 'annotations/panoptic_train/1.png').write_text('no image')
    with pytest.raises(UserError, match=r'cannot read .*panoptic_train/1\.png'):
        check_coco(cfg, LOADERS)


def test_a_map_of_another_size(cfg, data):
    cv2.imwrite(str(data / 'annotations/panoptic_train/0.png'), np.zeros((64, 40, 3), np.uint8))
    with pytest.raises(UserError, match=r'0\.png is 64 x 40, but its image is 40 x 64'):
        check_coco(cfg, LOADERS)


def test_a_segment_without_pixels(cfg, edit):
    with edit() as content:
        content['annotations'][0]['segments_info'][0]['id'] = 12345
    with pytest.raises(UserError, match=r'0\.png has no pixel of segment 12345'):
        check_coco(cfg, LOADERS)


def test_images_without_things_are_left_out(cfg, edit):
    with edit() as content:
        for annotation in content['annotations']:
            segments = annotation['segments_info']
            annotation['segments_info'] = [s for s in segments if s['category_id'] == 2]
    with pytest.raises(UserError, match=r'is left to use. .* none of the classes 1 \(yellow\)'):
        check_coco(cfg, LOADERS)
    cfg.train_dataloader.dataset.filter_cfg = None
    check_coco(cfg, LOADERS)


@pytest.mark.parametrize('field', ['category_id', 'bbox', 'iscrowd'])
def test_a_segment_without_a_required_field(cfg, edit, field):
    with edit('val') as content:
        del content['annotations'][0]['segments_info'][0][field]
    with pytest.raises(UserError, match=f'entry 1 of the annotations .* has no {field}'):
        check_coco(cfg, LOADERS)


@pytest.mark.parametrize(('key', 'value'), [('ann_file', 'a.json'), ('seg_prefix', 'maps')])
def test_an_evaluator_with_other_annotations(cfg, key, value):
    cfg.val_evaluator[key] = value
    with pytest.raises(UserError, match=rf'val_evaluator\.{key} is {value}, .*panoptic_val'):
        check_coco(cfg, LOADERS)
