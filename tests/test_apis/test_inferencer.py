"""Predictions for pictures without annotations."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import DefaultScope
from pycocotools import mask as rle
from toy import shrink_detection, shrink_segmentation, write_coco
from toy_checkpoints import make_checkpoint, save_model
from toy_depth import shrink_depth
from toy_heads import write_panoptic

from mmwf.apis import Inferencer
from mmwf.apis.inferencer import find_task
from mmwf.apis.loading import ImagePipeline, number_images
from mmwf.errors import UserError

CONFIGS = Path(__file__).parents[2] / 'configs'
DIGITS = list('0123456789')
SCENES = dict(
    vitdet=dict(model__test_cfg__rcnn__score_thr=0.0, model__test_cfg__rcnn__max_per_img=8),
    upernet={},
)
RNG = np.random.default_rng(0)


def noise(height=70, width=90):
    return RNG.integers(0, 255, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def scenes(tmp_path):
    """Makes an Inferencer of the quick start's detector or segmentor."""

    def make(name, **kwargs):
        classes = DIGITS if name == 'vitdet' else ['background', *DIGITS]
        paths = make_checkpoint(f'{name}*', classes, tmp_path, **SCENES[name])
        return Inferencer(*paths, 'cpu', score_thr=0.0, **kwargs)

    return make


@pytest.mark.parametrize(
    ('path', 'task'),
    [
        ('classification/deit-tiny-p16_8xb256_in1k.py', 'classification'),
        ('detection/fcos_weightformer-tiny-p16_16xb4-amp-lsj-100e_coco.py', 'detection'),
        ('detection/mask2former_weightformer-tiny-p16_8xb2-lsj-50e_coco.py', 'detection'),
        ('detection/mask2former_weightformer-tiny-p16_8xb2-lsj-50e_coco-panoptic.py', 'panoptic'),
        ('segmentation/fcn_weightformer-tiny-p16_8xb2-160k_ade20k-512x512.py', 'segmentation'),
        ('depth/depth_weightformer-tiny-p16_4xb8-25k_nyu-480x480.py', 'depth'),
    ],
)
def test_the_task_follows_from_the_config(path, task):
    assert find_task(Config.fromfile(CONFIGS / path)) == task


@pytest.mark.parametrize(('scope', 'part'), [('mmpretrain', 'head'), ('mmdet', 'test_cfg')])
def test_a_part_of_the_model_may_be_none(scope, part):
    cfg = Config(dict(default_scope=scope, model={'type': 'Any', part: None}))
    assert find_task(cfg) in ('classification', 'detection')


def test_a_config_without_test_data_is_an_error():
    with pytest.raises(UserError, match='test_dataloader has a pipeline'):
        ImagePipeline(Config(dict(default_scope='mmpretrain', test_dataloader=None)))


@pytest.mark.parametrize('image', ['a.jpg', Path('a.jpg'), noise()], ids=['str', 'Path', 'array'])
def test_one_image_in_place_of_a_list_is_an_error(image):
    with pytest.raises(UserError, match='Expected a list of images'):
        list(number_images(image, None))


@pytest.mark.parametrize(
    ('path', 'hint'),
    [
        ('generation/dit_weightformer-small-p2_8xb32-400k_in1k-256px.py', 'mmwf sample'),
        ('frozen_features/knn_weightformer-tiny-p16_8xb256_in1k.py', 'mmwf test'),
    ],
)
def test_a_config_without_predictions_names_the_command_for_it(path, hint):
    with pytest.raises(UserError, match=hint):
        Inferencer(CONFIGS / path, device='cpu')


def test_a_classifier_predicts_what_its_model_does(tmp_path):
    inferencer = Inferencer(*make_checkpoint('*digits-32px.py', DIGITS, tmp_path), 'cpu')
    image = noise(32, 32)
    cv2.imwrite(str(tmp_path / 'a.png'), image)
    by_path, by_array = inferencer([tmp_path / 'a.png', image])
    inputs = (torch.tensor(image).permute(2, 0, 1)[None].float() - 127.5) / 127.5
    with torch.no_grad():
        scores = inferencer.model(inputs).softmax(dim=1)[0]
    for prediction in (by_path, by_array):
        assert prediction.labels.tolist() == scores.argsort(descending=True)[:5].tolist()
        assert prediction.scores == pytest.approx(scores[prediction.labels].numpy(), abs=1e-6)
    assert inferencer.classes.names == DIGITS


@pytest.mark.parametrize('name', SCENES)
def test_predictions_do_not_depend_on_the_batch_and_keep_their_order(scenes, name):
    images = [noise(*shape) for shape in ((70, 90), (90, 70), (70, 90), (40, 90), (70, 90))]
    alone = scenes(name)(images)
    for batch_size in (2, 3):
        for image, first, second in zip(
            images, alone, scenes(name, batch_size=batch_size)(images), strict=True
        ):
            if name == 'vitdet':
                assert len(first.boxes) > 0
                assert first.scores == pytest.approx(second.scores, abs=1e-4)
                np.testing.assert_allclose(first.boxes, second.boxes, atol=1e-2)
                assert first.masks[0]['size'] == list(image.shape[:2])
            else:
                assert first.class_map.shape == image.shape[:2]
                assert (first.class_map == second.class_map).mean() > 0.999


def test_annotations_are_not_read(scenes):
    inferencer = scenes('vitdet')
    steps = [type(step).__name__ for step in inferencer.pipeline._transform.transforms]
    assert steps == ['Resize', 'PackDetInputs']


@pytest.mark.parametrize('batch_size', [1, 3])
def test_a_picture_of_one_tile_is_predicted_as_without_tiles(scenes, batch_size):
    image = noise()
    for name in SCENES:
        whole = scenes(name)([image])[0]
        tiled = scenes(name, tile=100, overlap=10, batch_size=batch_size)([image])[0]
        if name == 'vitdet':
            np.testing.assert_allclose(whole.boxes, tiled.boxes)
            assert rle.area(whole.masks).tolist() == rle.area(tiled.masks).tolist()
        else:
            assert np.array_equal(whole.class_map, tiled.class_map)


def test_tiles_are_predicted_as_pictures_and_put_in_their_places(scenes):
    tiles = [noise(64, 64) for _ in range(6)]
    picture = np.block([[[t] for t in tiles[:3]], [[t] for t in tiles[3:]]]).reshape(128, 192, 3)
    alone = scenes('upernet')(tiles)
    (tiled,) = scenes('upernet', tile=64, overlap=0, batch_size=4)([picture])
    expected = np.block([[p.class_map for p in alone[:3]], [p.class_map for p in alone[3:]]])
    assert (tiled.class_map == expected).mean() > 0.999


@pytest.mark.parametrize('tile', [None, 1000])
def test_a_picture_too_thin_to_be_resized_is_reported_and_the_others_done(scenes, tile):
    images, failed = [noise(1, 2000), noise()], []
    inferencer = scenes('upernet', tile=tile, overlap=0)
    pictures = number_images(images, inferencer.pipeline)
    done = list(inferencer.stream(pictures, lambda source, error: failed.append(str(error))))
    assert [picture.frame for picture, _ in done] == [1]
    assert len(failed) == 1 and failed[0].startswith('Cannot resize the image')


def test_the_logits_of_tiles_are_averaged(scenes):
    picture, inferencer = noise(64, 96), scenes('upernet', tile=64, overlap=32)
    total = np.zeros((11, 64, 96))
    with DefaultScope.overwrite_default_scope('mmseg'):
        pipeline = Compose(inferencer.model.cfg.test_pipeline[1:2] + [dict(type='PackSegInputs')])
    for left in (0, 32):
        part = np.ascontiguousarray(picture[:, left : left + 64])
        packed = pipeline(dict(img=part, img_shape=(64, 64), ori_shape=(64, 64)))
        with torch.no_grad():
            (sample,) = inferencer.model.test_step(pseudo_collate([packed]))
        total[:, :, left : left + 64] += sample.seg_logits.data.numpy()
    total[:, :, 32:64] /= 2
    assert (inferencer([picture])[0].class_map == total.argmax(0)).mean() > 0.999


def test_depth_in_metres_at_the_size_of_the_picture(tmp_path):
    cfg = shrink_depth(Config.fromfile(next((CONFIGS / 'depth').glob('*.py'))), tmp_path)
    paths = save_model(cfg, tmp_path)
    (whole,) = Inferencer(*paths, 'cpu')([noise(64, 96)])
    assert whole.depth.shape == (64, 96) and 0 < whole.depth.min() <= whole.depth.max() < 10
    (tiled,) = Inferencer(*paths, 'cpu', tile=64, overlap=32)([noise(64, 96)])
    assert tiled.depth.shape == (64, 96) and 0 < tiled.depth.min() <= tiled.depth.max() < 10


def test_panoptic_segments_cover_pixels_once(tmp_path):
    path = 'detection/mask2former_weightformer-tiny-p16_8xb2-lsj-50e_coco-panoptic.py'
    cfg = shrink_detection(
        Config.fromfile(CONFIGS / path), write_panoptic(write_coco(tmp_path / 'coco'))
    )
    cfg.model.test_cfg.update(iou_thr=0.0, object_mask_thr=0.0)
    inferencer = Inferencer(*save_model(cfg, tmp_path), 'cpu')
    (prediction,) = inferencer([noise(50, 60)])
    assert prediction.segment_map.shape == (50, 60)
    ids, areas = np.unique(prediction.segment_map, return_counts=True)
    counted = dict(zip(ids.tolist(), areas.tolist(), strict=True))
    assert {s['id']: s['area'] for s in prediction.segments} == {
        i: area for i, area in counted.items() if i
    }
    assert prediction.segments and inferencer.classes.names == ('yellow', 'cyan')
    with pytest.raises(UserError, match='Tiles are for.*got a config of panoptic'):
        Inferencer(*save_model(cfg, tmp_path), 'cpu', tile=32, overlap=0)


def test_classes_come_from_the_dataset_if_the_checkpoint_names_none(tmp_path):
    (path,) = (CONFIGS / 'segmentation').glob('fcn*')
    cfg = Config.fromfile(path)
    cfg.model.backbone.arch = dict(embed_dims=192, depth=17, mlp_ratio=0.5)
    cfg.model.backbone.init_cfg = None
    inferencer = Inferencer(*save_model(cfg, tmp_path), 'cpu')
    assert inferencer.classes.names[:2] == ('wall', 'building')
    assert len(inferencer.classes.palette) == len(inferencer.classes.names) == 150


def test_unreadable_pictures_and_bad_numbers_are_errors(tmp_path):
    paths = make_checkpoint('*digits-32px.py', DIGITS, tmp_path)
    with pytest.raises(UserError, match='Cannot read the image .*missing.png'):
        Inferencer(*paths, 'cpu')([tmp_path / 'missing.png'])
    with pytest.raises(UserError, match='batch size of 1 or more, got 0'):
        Inferencer(*paths, 'cpu', batch_size=0)
    with pytest.raises(UserError, match='Tiles are for.*got a config of classification'):
        Inferencer(*paths, 'cpu', tile=32, overlap=0)
    with pytest.raises(UserError, match='overlap from 0 to less than the tiles, got 64 of 64'):
        Inferencer(*paths, 'cpu', tile=64, overlap=64)


def test_a_test_in_windows_works(tmp_path):
    (path,) = (CONFIGS / 'segmentation').glob('segformer*')
    cfg = shrink_segmentation(Config.fromfile(path), tmp_path)
    (prediction,) = Inferencer(*save_model(cfg, tmp_path), 'cpu')([noise(90, 200)])
    assert prediction.class_map.shape == (90, 200)
