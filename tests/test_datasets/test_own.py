"""Own data are recognised in every layout, with the right boxes, and faults are named."""

import json

import numpy as np
import pytest
from PIL import Image

from mmwf.datasets.own import LAYOUTS, recognise
from mmwf.errors import UserError

SIZE = (40, 60)  # height, width


def write_image(path, size=SIZE, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((*size, 3), np.uint8)).save(path, **options)
    return path


def write_text(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def coco(names, boxes, start=0):
    """COCO annotations of images with one box of class 7 each; there is a class without objects."""
    return dict(
        images=[dict(id=start + i, file_name=name) for i, name in enumerate(names)],
        annotations=[
            dict(id=i, image_id=start + i, category_id=7, bbox=box, iscrowd=0)
            for i, box in enumerate(boxes)
        ],
        categories=[dict(id=3, name='none'), dict(id=7, name='cat')],
    )


def write_coco(root, split='train', number=2, **changes):
    names = [write_image(root / split / f'{i}.jpg').name for i in range(number)]
    content = dict(coco(names, [[1, 2, 3, 4]] * number), **changes)
    write_text(root / f'annotations/instances_{split}2017.json', json.dumps(content))


def write_yolo(root, lines='0 0.5 0.5 0.2 0.1\n', names='names: [cat]\n'):
    for split in ('train', 'valid'):
        write_image(root / split / 'images' / 'a.jpg')
        write_text(root / split / 'labels' / 'a.txt', lines)
    if names:
        write_text(root / 'data.yaml', names)


def write_voc(root, number=5, box=(7, 9, 12, 20), name='cat'):
    tags = ('xmin', 'ymin', 'xmax', 'ymax')
    values = ''.join(f'<{tag}>{value}</{tag}>' for tag, value in zip(tags, box, strict=True))
    for i in range(number):
        write_image(root / 'JPEGImages' / f'{i}.jpg')
        write_text(
            root / 'Annotations' / f'{i}.xml',
            f'<annotation><object><name>{name}</name><bndbox>{values}</bndbox></object>'
            '</annotation>',
        )


def write_labelme(root, shapes, number=5):
    for i in range(number):
        name = write_image(root / f'{i}.jpg').name
        write_text(root / f'{i}.json', json.dumps(dict(imagePath=name, shapes=shapes)))


def write_maps(root, values, names=''):
    for split in ('training', 'validation'):
        write_image(root / 'images' / split / 'a.jpg')
        path = root / 'annotations' / split / 'a.png'
        path.parent.mkdir(parents=True)
        array = np.resize(np.array(values, np.uint8), SIZE)
        Image.fromarray(array).save(path)
    if names:
        write_text(root / 'classes.txt', names)


def write_classes(root, classes=('cat', 'dog'), number=5):
    for name in classes:
        for i in range(number):
            write_image(root / name / f'{i}.png')


def boxes(split):
    return [item['bbox'] for item in split.content['annotations']]


def test_coco_with_two_files(tmp_path):
    write_coco(tmp_path, 'train', 3)
    write_coco(tmp_path, 'val', 2)
    data = recognise(tmp_path)
    assert (data.task, data.layout, data.classes) == ('detection', 'COCO', ('cat',))
    assert (data.train.images, data.train.number) == ('train', 3)
    assert data.val.annotations == 'annotations/instances_val2017.json'
    assert data.size == SIZE and not data.has_masks
    assert data.notes == ['Without objects, so left out: none.']


def test_coco_with_masks_in_every_object_has_masks(tmp_path):
    for split in ('train', 'val'):
        content = coco(['0.jpg'], [[1, 2, 3, 4]])
        content['annotations'][0]['segmentation'] = [[1, 2, 4, 2, 4, 6]]
        write_coco(tmp_path, split, 1, annotations=content['annotations'])
    assert recognise(tmp_path).has_masks


def test_one_coco_file_is_divided(tmp_path):
    names = [write_image(tmp_path / 'images' / f'{i}.jpg').name for i in range(10)]
    write_text(tmp_path / 'result.json', json.dumps(coco(names, [[i, 0, 1, 1] for i in range(10)])))
    data = recognise(tmp_path)
    assert [item['file_name'] for item in data.val.content['images']] == ['0.jpg', '5.jpg']
    assert boxes(data.val) == [[0, 0, 1, 1], [5, 0, 1, 1]]
    assert (data.train.number, len(boxes(data.train)), data.train.images) == (8, 8, 'images')


def test_coco_gets_the_fields_that_it_lacks(tmp_path):
    write_coco(tmp_path)
    write_coco(tmp_path, 'val', annotations=[])
    data = recognise(tmp_path)
    image, annotation = data.train.content['images'][0], data.train.content['annotations'][0]
    assert (image['height'], image['width']) == SIZE
    assert (annotation['area'], annotation['iscrowd']) == (12, 0)
    write_text(tmp_path / 'annotations/instances_train2017.json', json.dumps(data.train.content))
    again = recognise(tmp_path)
    assert again.train.content is None and again.val.content['annotations'] == []


def test_coco_categories_are_in_the_order_of_the_classes(tmp_path):
    """mmdet numbers the classes in the order of the file; Roboflow names class 0 as the project."""
    categories = [dict(id=9, name='dog'), dict(id=0, name='cat'), dict(id=7, name='cat')]
    objects = [dict(id=i, image_id=0, category_id=i, bbox=[0, 0, 4, 4]) for i in (7, 9)]
    for split in ('train', 'val'):
        write_coco(tmp_path, split, categories=categories, annotations=objects)
    data = recognise(tmp_path)
    assert data.classes == ('cat', 'dog')
    assert [item['id'] for item in data.train.content['categories']] == [7, 9]


def test_yolo_boxes_become_pixels(tmp_path):
    write_yolo(tmp_path)
    data = recognise(tmp_path)
    assert (data.layout, data.classes, data.has_masks) == ('YOLO', ('cat',), False)
    assert boxes(data.train) == [pytest.approx([24, 18, 12, 4])]
    assert (data.val.images, data.val.number) == ('valid/images', 1)


def test_yolo_polygons_become_masks(tmp_path):
    write_yolo(tmp_path, '0 0.1 0.1 0.5 0.1 0.5 0.6\n', 'names:\n  0: cat\n')
    data = recognise(tmp_path)
    assert data.has_masks
    (item,) = data.train.content['annotations']
    assert item['segmentation'] == [pytest.approx([6, 4, 30, 4, 30, 24])]
    assert item['bbox'] == pytest.approx([6, 4, 24, 20])


def test_images_that_exif_rotates_have_the_size_that_is_shown(tmp_path):
    write_yolo(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6
    write_image(tmp_path / 'train' / 'images' / 'a.jpg', exif=exif)
    data = recognise(tmp_path)
    assert data.size == SIZE[::-1]
    assert boxes(data.train) == [pytest.approx([16, 27, 8, 6])]


def test_voc_counts_pixels_from_one(tmp_path):
    write_voc(tmp_path)
    data = recognise(tmp_path)
    assert (data.layout, data.train.number, data.val.number) == ('Pascal VOC', 4, 1)
    assert boxes(data.val) == [[6, 8, 6, 12]]


def test_voc_uses_the_lists_of_its_splits(tmp_path):
    write_voc(tmp_path)
    write_text(tmp_path / 'ImageSets/Main/train.txt', '0\n1\n')
    write_text(tmp_path / 'ImageSets/Main/val.txt', '4\n')
    data = recognise(tmp_path)
    assert [item['file_name'] for item in data.val.content['images']] == ['4.jpg']
    assert data.train.number == 2 and not data.notes


def test_labelme_rectangles_and_polygons_are_masks(tmp_path):
    shapes = [
        dict(label='cat', shape_type='rectangle', points=[[5, 6], [15, 26]]),
        dict(label='dog', shape_type='polygon', points=[[1, 1], [9, 1], [9, 5]]),
    ]
    write_labelme(tmp_path, shapes)
    data = recognise(tmp_path)
    assert (data.layout, data.classes, data.has_masks) == ('labelme', ('cat', 'dog'), True)
    assert boxes(data.val) == [[5, 6, 10, 20], [1, 1, 8, 4]]
    assert [item['category_id'] for item in data.val.content['annotations']] == [0, 1]


@pytest.mark.parametrize(
    ('values', 'names', 'classes', 'zero_is_ignored'),
    [
        ([0, 1, 255], '', ('class_0', 'class_1'), False),
        ([0, 2], 'sky\nroad\ncar\n', ('sky', 'road', 'car'), False),
        ([0, 1, 2], 'sky\nroad\n', ('sky', 'road'), True),
    ],
)
def test_label_maps_have_the_classes_of_their_values(
    tmp_path, values, names, classes, zero_is_ignored
):
    write_maps(tmp_path, values, names)
    data = recognise(tmp_path)
    assert (data.task, data.classes) == ('segmentation', classes)
    assert data.zero_is_ignored == zero_is_ignored
    assert (data.train.images, data.train.annotations) == (
        'images/training',
        'annotations/training',
    )
    assert data.suffixes == ('.jpg', '.png')


def test_class_folders_with_and_without_a_split(tmp_path):
    write_classes(tmp_path / 'whole')
    data = recognise(tmp_path / 'whole')
    assert (data.task, data.classes) == ('classification', ('cat', 'dog'))
    assert data.val.content == ['cat/0.png 0', 'dog/0.png 1']
    assert data.train.number == 8
    for split in ('train', 'val'):
        write_classes(tmp_path / 'split' / split)
    data = recognise(tmp_path / 'split')
    assert (data.train.images, data.train.number) == ('train', 10)
    assert data.val.content[-1] == 'dog/4.png 1'


def test_hidden_files_are_left_out(tmp_path):
    for split in ('train', 'val'):
        write_classes(tmp_path / 'folders' / split, number=1)
        write_classes(tmp_path / 'folders' / split, ['.cache', 'cat/.cache'])
    data = recognise(tmp_path / 'folders')
    assert data.train.content == data.val.content == ['cat/0.png 0', 'dog/0.png 1']
    write_coco(tmp_path / 'coco')
    write_coco(tmp_path / 'coco', 'val')
    (tmp_path / 'coco/._train.json').write_bytes(b'\0\xff')
    write_text(tmp_path / 'coco/.vscode/settings.json', '// not JSON')
    assert recognise(tmp_path / 'coco').layout == 'COCO'


def test_voc_names_may_have_spaces(tmp_path):
    write_voc(tmp_path)
    for path in [*tmp_path.rglob('0.*')]:
        path.rename(path.with_stem('a b'))
    write_text(tmp_path / 'ImageSets/Main/train.txt', 'a b\n1 -1\n')
    write_text(tmp_path / 'ImageSets/Main/val.txt', '4\n')
    data = recognise(tmp_path)
    assert [item['file_name'] for item in data.train.content['images']] == ['a b.jpg', '1.jpg']


def test_labelme_polygons_end_at_the_edge_of_the_image(tmp_path):
    write_labelme(tmp_path, [dict(label='cat', points=[[-3, -2], [70, 5], [9, 50]])])
    (box, *_) = boxes(recognise(tmp_path).train)
    assert box == [0, 0, 60, 40]


def test_yolo_classes_are_in_the_order_of_their_numbers(tmp_path):
    names = ', '.join(f'"{i}": c{i}' for i in range(11))
    write_yolo(tmp_path, names=f'names: {{{names}}}')
    assert recognise(tmp_path).classes == tuple(f'c{i}' for i in range(11))


def test_label_maps_in_labels_are_not_yolo(tmp_path):
    write_maps(tmp_path, [0, 1], 'sky\nroad\n')
    (tmp_path / 'annotations').rename(tmp_path / 'labels')
    assert recognise(tmp_path).layout == 'label maps'


def write_two_classes_of_which_val_has_one(root):
    write_classes(root / 'train')
    write_classes(root / 'val', ['cat'])


def write_masks_in_colour(root):
    write_maps(root, [0, 1])
    Image.new('RGB', SIZE[::-1]).save(root / 'annotations/training/a.png')


def write_a_damaged_map(root):
    write_maps(root, [0, 1])
    (root / 'annotations/training/a.png').write_bytes(b'PNG')


def write_coco_without_images(root):
    write_coco(root)
    write_coco(root, 'val')
    (root / 'train/0.jpg').unlink()


FAULTS = {
    'an empty folder': (lambda root: None, 'none of the layouts .*It has: nothing'),
    'other files': (lambda root: write_text(root / 'notes.doc', ''), 'It has: notes.doc'),
    'images that are missing': (write_coco_without_images, r'names the image 0\.jpg, which is in'),
    'only training annotations of two files': (
        lambda root: [write_coco(root, split) for split in ('train', 'training')],
        'one annotation file with "train"',
    ),
    'annotations without ids': (
        lambda root: [write_coco(root, s, images=[{}]) for s in ('train', 'val')],
        'lists no images with a file_name',
    ),
    'two categories of one name': (
        lambda root: [
            write_coco(
                root,
                split,
                categories=[dict(id=i, name='cat') for i in (7, 8)],
                annotations=[dict(image_id=0, category_id=i, bbox=[0, 0, 1, 1]) for i in (7, 8)],
            )
            for split in ('train', 'val')
        ],
        'share the name cat',
    ),
    'annotations without boxes': (
        lambda root: [
            write_coco(root, split, annotations=[dict(image_id=0, category_id=7)])
            for split in ('train', 'val')
        ],
        "have a fault, KeyError.'bbox'",
    ),
    'JSON that ends early': (
        lambda root: write_text(root / 'a.json', '{"images'),
        'not valid JSON',
    ),
    'no names of classes': (lambda root: write_yolo(root, names=''), 'no names of classes'),
    'a class without name': (
        lambda root: write_yolo(root, '1 0 0 1 1'),
        r'a\.txt, line 1: class 1',
    ),
    'words for numbers': (lambda root: write_yolo(root, 'cat 0 0 1 1'), 'line 1: expected a class'),
    'pixels for shares': (lambda root: write_yolo(root, '0 5 5 20 20'), 'numbers from 0 to 1'),
    'five numbers': (lambda root: write_yolo(root, '0 0 0 1 1 1'), 'expected 4 numbers'),
    'a box without numbers': (
        lambda root: write_voc(root, box=['a'] * 4),
        r'Cannot read .*\d\.xml',
    ),
    'XML with entities': (
        lambda root: (write_voc(root), write_text(root / 'Annotations/0.xml', '<!ENTITY a "b">')),
        'XML entities',
    ),
    'names without class 0': (
        lambda root: write_yolo(root, names='names: {1: cat, 2: dog}'),
        'expected names with the keys 0 to 1, got 1, 2',
    ),
    'YOLO without objects': (lambda root: write_yolo(root, ''), 'have no objects'),
    'labelme without objects': (lambda root: write_labelme(root, []), 'have no objects'),
    'a circle': (
        lambda root: write_labelme(
            root, [dict(label='a', shape_type='circle', points=[[1, 1], [2, 2]])]
        ),
        'got a circle',
    ),
    'coloured label maps': (write_masks_in_colour, 'has 3 channels'),
    'a damaged label map': (write_a_damaged_map, 'Cannot read the label map .*a.png'),
    'label maps of 0 and 255': (
        lambda root: write_maps(root, [0, 255]),
        'at least two classes in .* got the values 0 beside 255',
    ),
    'one image for each class': (
        lambda root: write_classes(root, number=1),
        "cat has no annotated images for the split 'train'",
    ),
    'more values than names': (lambda root: write_maps(root, [0, 5], 'a\nb\n'), 'has 2 names, but'),
    'a class in one split only': (write_two_classes_of_which_val_has_one, 'only one has: dog'),
    'one class': (lambda root: write_classes(root, ['cat']), 'at least two class folders'),
    'a class without images': (
        lambda root: (write_classes(root), (root / 'empty').mkdir()),
        'No images in the class folders empty',
    ),
}


@pytest.mark.parametrize('fault', FAULTS)
def test_a_fault_is_named(tmp_path, fault):
    write, message = FAULTS[fault]
    write(tmp_path)
    with pytest.raises(UserError, match=f'(?s){message}'):
        recognise(tmp_path)


def test_a_folder_that_does_not_exist_is_an_error(tmp_path):
    with pytest.raises(UserError, match='does not exist'):
        recognise(tmp_path / 'none')


def test_only_layouts_of_the_wanted_task_are_tried(tmp_path):
    write_classes(tmp_path)
    with pytest.raises(UserError, match='none of the layouts') as error:
        recognise(tmp_path, 'detection')
    known = [name for name, (_, task, _) in LAYOUTS.items() if task == 'detection']
    assert all(name in str(error.value) for name in known)
    assert 'class folders' not in str(error.value)
