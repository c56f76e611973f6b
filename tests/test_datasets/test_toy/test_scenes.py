"""The scenes, as made and as read back from their files."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from pycocotools.coco import COCO

from mmwf.datasets.toy import scenes
from mmwf.datasets.toy.digits import split_digits
from mmwf.datasets.toy.scenes import make_scenes

ROOT = Path(__file__).parents[3]
NUM_SCENES = {'train': 30, 'val': 12}


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp('scenes')
    scenes.write_scenes(folder, num_scenes=NUM_SCENES)
    return folder


def read_coco(root, split):
    coco = COCO(root / 'coco' / 'annotations' / f'instances_{split}.json')
    for info in coco.loadImgs(coco.getImgIds()):
        yield coco, info, coco.loadAnns(coco.getAnnIds(info['id'], iscrowd=None))


def test_scenes_depend_on_seed_and_index_only():
    first, again = list(make_scenes('val', 3)), list(make_scenes('val', 5))
    other = next(make_scenes('val', 1, seed=1))
    for a, b in zip(first, again[:3], strict=True):
        assert np.array_equal(a.image, b.image) and np.array_equal(a.index_map(), b.index_map())
    assert not np.array_equal(first[0].image, other.image)


def test_files_are_the_same_for_the_same_seed(root, tmp_path):
    scenes.write_scenes(tmp_path, num_scenes={'val': 12})
    written = [p for p in tmp_path.rglob('*') if p.is_file()]
    assert len(written) == 1 + 3 * 12
    assert all(p.read_bytes() == (root / p.relative_to(tmp_path)).read_bytes() for p in written)


def test_scenes_differ_in_shape_and_some_have_a_crowd():
    made = list(make_scenes('train', 30))
    assert len({scene.soft.shape for scene in made}) > 20
    crowds = [i for scene in made for i in scene.instances if i.is_crowd]
    assert 1 <= len(crowds) <= 10
    assert {i.digit for scene in made for i in scene.instances} == set(range(10))


def test_validation_shows_no_training_digit_and_no_training_photograph(monkeypatch):
    used = []

    def record(rng, photographs, scans, digits):
        used.append((photographs, scans))

    monkeypatch.setattr(scenes, 'make_scene', record)
    for split in ('train', 'val'):
        list(make_scenes(split, 1, seed=3))
    (train_photographs, train_scans), (val_photographs, val_scans) = used
    assert np.array_equal(train_scans, split_digits(3)['train'][0])
    assert np.array_equal(val_scans, split_digits(3)['val'][0])
    train_pixels = {photograph.tobytes() for photograph in train_photographs}
    assert len(train_pixels) == 8 and len(val_photographs) == 4
    assert not train_pixels & {photograph.tobytes() for photograph in val_photographs}


def test_no_pixel_belongs_to_two_instances_and_most_of_each_is_visible():
    hidden = 0
    for scene in make_scenes('train', 30):
        masks = np.array([instance.mask for instance in scene.instances])
        assert masks.sum(axis=0).max() == 1
        assert all(mask.any() for mask in masks)
        # A digit partly hides another if their bounding boxes overlap.
        boxes = [np.argwhere(mask) for mask in masks]
        spans = [(b.min(axis=0), b.max(axis=0)) for b in boxes]
        hidden += any(
            (a[0] <= b[1]).all() and (b[0] <= a[1]).all()
            for i, a in enumerate(spans)
            for b in spans[:i]
        )
    assert hidden > 5


def test_a_pasted_digit_hides_a_part_of_another_but_not_too_much():
    rng = np.random.default_rng(0)
    canvas = scenes._Canvas(np.full((20, 20, 3), 128, np.uint8))
    back, front, cover = (np.zeros((20, 20), np.float32) for _ in range(3))
    back[5:15, 5:15] = 1
    front[5:15, 13:18] = 1
    cover[:, :12] = 1
    assert canvas.paste(rng, back, digit=3)
    assert canvas.paste(rng, front, digit=7)
    assert not canvas.paste(rng, cover, digit=1)  # would hide the 3
    scene = canvas.scene()
    assert [(i.digit, i.mask.sum()) for i in scene.instances] == [(3, 80), (7, 50)]
    labels = scene.index_map()
    assert labels[10, 12] == 4 and labels[10, 13] == 8 and labels[0, 0] == 0
    colors = [scene.image[10, x].astype(float) for x in (6, 15)]
    assert min(color.min() for color in colors) >= scenes.DIGIT_COLORS[0]


def test_a_digit_on_a_digit_has_another_color():
    rng = np.random.default_rng(0)
    behind = np.array([220.0, 220, 220])
    colors = np.array([scenes._contrasting_color(rng, behind) for _ in range(100)])
    assert np.linalg.norm(colors - behind, axis=1).min() >= scenes.MIN_CONTRAST


@pytest.mark.parametrize('split', ['train', 'val'])
def test_pycocotools_reads_the_masks_that_were_drawn(root, split):
    made = list(make_scenes(split, NUM_SCENES[split]))
    kinds = set()
    for scene, (coco, info, annotations) in zip(made, read_coco(root, split), strict=True):
        image = cv2.imread(str(root / 'coco' / split / info['file_name']))
        assert image.shape == (info['height'], info['width'], 3) == scene.image.shape
        assert np.abs(image.astype(int) - scene.image).mean() < 12  # JPEG
        for instance, annotation in zip(scene.instances, annotations, strict=True):
            mask = coco.annToMask(annotation)
            assert np.array_equal(mask, instance.mask)
            assert annotation['area'] == mask.sum()
            assert annotation['bbox'] == list(cv2.boundingRect(mask))
            assert coco.cats[annotation['category_id']]['name'] == str(instance.digit)
            assert annotation['iscrowd'] == instance.is_crowd
            kinds.add((type(annotation['segmentation']), annotation['iscrowd']))
    assert {(list, 0), (dict, 0)} <= kinds and (list, 1) not in kinds


@pytest.mark.parametrize('split, folder', [('train', 'training'), ('val', 'validation')])
def test_index_maps_agree_with_the_masks(root, split, folder):
    ade20k = root / 'ade20k'
    seen = set()
    for coco, info, annotations in read_coco(root, split):
        name = info['file_name'].replace('.jpg', '.png')
        labels = cv2.imread(str(ade20k / 'annotations' / folder / name), cv2.IMREAD_UNCHANGED)
        image = (ade20k / 'images' / folder / info['file_name']).read_bytes()
        assert image == (root / 'coco' / split / info['file_name']).read_bytes()
        assert labels.dtype == np.uint8 and labels.shape == (info['height'], info['width'])
        expected = np.zeros_like(labels)
        for annotation in annotations:
            value = 255 if annotation['iscrowd'] else annotation['category_id']
            expected[coco.annToMask(annotation) == 1] = value
        soft = (labels == 255) & (expected != 255)
        assert np.array_equal(labels[~soft], expected[~soft])
        assert 0 < soft.mean() < 0.2
        seen |= set(np.unique(labels))
    assert seen == {*range(11), 255}
    assert len(list((ade20k / 'annotations' / folder).iterdir())) == NUM_SCENES[split]


def test_the_config_names_the_classes_in_their_order():
    cfg = Config.fromfile(ROOT / 'configs/_base_/datasets/digit_scenes_ade20k.py')
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        metainfo = cfg[loader].dataset.metainfo
        assert metainfo.classes == ('background', *scenes.CLASSES)
        assert len(metainfo.palette) == 11


def test_a_mask_with_a_hole_or_in_two_parts_becomes_a_run_length_encoding():
    block = np.zeros((9, 12), bool)
    block[2:7, 3:9] = True
    ring, parts = block.copy(), block.copy()
    ring[4, 5] = False
    parts[:, 6] = False
    assert isinstance(scenes.encode_mask(block), list)
    assert isinstance(scenes.encode_mask(ring), dict)
    assert isinstance(scenes.encode_mask(parts), dict)


def test_a_missing_photograph_is_named(monkeypatch):
    monkeypatch.setitem(scenes.PHOTOGRAPHS, 'val', [('skimage.data', ['nothing.png'])])
    with pytest.raises(FileNotFoundError, match='nothing.png'):
        next(make_scenes('val', 1))


def test_one_format_can_be_written_alone(tmp_path):
    counts = scenes.write_scenes(tmp_path, ['ade20k'], {'train': 2, 'val': 1})
    assert counts == {'train': 2, 'val': 1}
    assert [p.name for p in tmp_path.iterdir()] == ['ade20k']
    assert len(list((tmp_path / 'ade20k').rglob('*.png'))) == 3
