"""Hostile values in a file in COCO's format."""

import json

import pytest

from mmwf.datasets.checks.coco_fields import (
    TYPES,
    check_entries,
    check_inside,
    check_sizes,
)
from mmwf.errors import UserError


@pytest.mark.parametrize(
    ('field', 'value'),
    [
        ('id', [1]),
        ('id', None),
        ('id', True),
        ('image_id', {}),
        ('file_name', 5),
        ('file_name', ''),
        ('height', 0),
        ('height', -1),
        ('width', 1.5),
        ('width', '64'),
        ('bbox', '1234'),
        ('bbox', [1, 2, 3]),
        ('bbox', ['1', '2', '3', '4']),
        ('bbox', [0, 0, float('inf'), 1]),
        ('area', float('nan')),
        ('area', 'large'),
        ('iscrowd', 2),
        ('iscrowd', True),
        ('segmentation', 'everything'),
        ('segmentation', [[1, 2, 3, 4]]),
        ('segmentation', [[1, 2, 3, 4, 5, 6, 7]]),
        ('segmentation', [[1, 2, 3, 4, 5, 'a']]),
        ('segmentation', dict(size=[2, 2], counts=[1, 2])),
        ('segmentation', dict(size=[2, 2], counts=[-4, 8])),
        ('segmentation', dict(size=[2, -2], counts='04')),
        ('segmentation', dict(size='22', counts='04')),
        ('segmentation', dict(counts='04')),
        ('segments_info', {}),
    ],
)
def test_a_value_of_another_type_is_named(tmp_path, field, value):
    entry = {field: value}
    with pytest.raises(
        UserError, match=rf'train: {field} of entry 1 of the images in .*a\.json is'
    ):
        check_entries('train', tmp_path / 'a.json', 'images', [entry], {field})


@pytest.mark.parametrize(
    'segmentation',
    [[[1, 2, 3, 4, 5, 6]], dict(size=[2, 2], counts=[1, 3]), dict(size=[2, 2], counts='04')],
)
def test_polygons_and_both_kinds_of_rle_pass(segmentation):
    entry = json.loads(json.dumps(dict(segmentation=segmentation)))
    check_entries('train', 'a.json', 'annotations', [entry], set(entry) & set(TYPES))


@pytest.mark.parametrize('entries', [{}, 'images', None, [1], [None], [['id']]])
def test_entries_are_a_list_of_objects(entries):
    with pytest.raises(UserError, match=r'Expected|expected a list of images'):
        check_entries('train', 'a.json', 'images', entries, {'id'})


def content(height=4, width=4, size=(4, 4)):
    image = dict(id=1, file_name='a.png', height=height, width=width)
    mask = dict(size=list(size), counts='0')
    return dict(images=[image], annotations=[dict(id=7, image_id=1, segmentation=mask)])


def test_images_and_masks_have_sizes_that_fit_into_memory():
    check_sizes('train: a.json', content())
    with pytest.raises(UserError, match='a.png is 100000 x 100000 pixels. Expected at most 89,478'):
        check_sizes('train: a.json', content(100_000, 100_000, (100_000, 100_000)))
    with pytest.raises(UserError, match=r'mask of annotation 7 has the size \[100000, 100000\]'):
        check_sizes('train: a.json', content(size=(100_000, 100_000)))


@pytest.mark.parametrize('name', ['../a.jpg', 'b/../../a.jpg', '/etc/a.jpg', '../data2/a.jpg'])
def test_paths_outside_of_the_folder_are_refused(tmp_path, name):
    root = tmp_path / 'data'
    with pytest.raises(UserError, match='outside of the folder of the data.*allow_paths_outside'):
        check_inside('train: a.json', root, root / name)


@pytest.mark.parametrize('name', ['a.jpg', 'b/a.jpg', 'b/../a.jpg', '..a.jpg'])
def test_paths_in_the_folder_pass(tmp_path, name):
    check_inside('train: a.json', tmp_path, tmp_path / name)
