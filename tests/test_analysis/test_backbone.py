"""Backbones and their input images for the analyses."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from toy import shrink_detection, shrink_segmentation

from mmwf.analysis.backbone import BackboneInputs, build_backbone, input_shape
from mmwf.analysis.receptive_field import effective_receptive_field
from mmwf.errors import UserError

CONFIGS = Path(__file__).parents[2] / 'configs'
DIGITS = 'quickstart/weightformer-w64d8-p4_1xb64-20e_digits-32px.py'
DEIT = 'classification/deit-tiny-p16_8xb256_in1k.py'
DETECTION = 'detection/vitdet-cascade-mask-rcnn_{}-tiny-p16_16xb4-amp-lsj-100e_coco.py'
SEGMENTATION = 'segmentation/upernet_{}-tiny-p16_8xb2-160k_ade20k-512x512.py'
RGB_MEAN, RGB_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def load(path):
    return Config.fromfile(CONFIGS / path)


@pytest.fixture
def digits_cfg():
    cfg = load(DIGITS)
    cfg.model.backbone.arch = dict(embed_dims=8, depth=2, mlp_ratio=1)
    cfg.model.head.in_channels = 8
    return cfg


@pytest.fixture
def folder(tmp_path):
    """Six images of constant colour, BGR = (i, 100, 200), in two folders."""
    for i in range(6):
        path = tmp_path / 'images' / 'ab'[i % 2] / f'{i}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.full((6, 9, 3), (i, 100, 200), np.uint8))
    (tmp_path / 'images' / 'labels.txt').write_text('not an image')
    return tmp_path / 'images'


@pytest.mark.parametrize(
    ('path', 'first_pixel'),
    [
        (DIGITS, [(value - 127.5) / 127.5 for value in (0, 100, 200)]),
        *(
            (path.format('weightformer'), (np.array([200, 100, 0]) - RGB_MEAN) / RGB_STD)
            for path in ('classification/{}-tiny-p16_8xb256_in1k.py', DETECTION, SEGMENTATION)
        ),
    ],
)
def test_images_are_resized_and_normalised_as_the_config_says(folder, path, first_pixel):
    images = list(BackboneInputs(folder, load(path), (8, 12), 50))
    assert len(images) == 6
    assert {image.shape for image in images} == {(1, 3, 8, 12)}
    assert images[0][0, :, 5, 7].tolist() == pytest.approx(list(first_pixel), abs=1e-6)


def test_max_images_are_evenly_spaced(folder, digits_cfg):
    names = [path.name for path in BackboneInputs(folder, digits_cfg, (8, 8), 3).paths]
    assert names == ['0.png', '4.png', '3.png']  # of a/024, b/135


def test_missing_images_are_errors(tmp_path, folder, digits_cfg):
    with pytest.raises(UserError, match='There is no folder nowhere'):
        BackboneInputs('nowhere', digits_cfg, (8, 8), 5)
    (tmp_path / 'empty').mkdir()
    with pytest.raises(UserError, match=r'There are no images \(.bmp, .*\) in .*empty'):
        BackboneInputs(tmp_path / 'empty', digits_cfg, (8, 8), 5)
    with pytest.raises(UserError, match='at least one image and one pixel, got 0 images of 8 x 8'):
        BackboneInputs(folder, digits_cfg, (8, 8), 0)
    (folder / 'a/2.png').write_bytes(b'broken')
    with pytest.raises(UserError, match=r'Cannot read the image .*a/2\.png'):
        list(BackboneInputs(folder, digits_cfg, (8, 8), 5))


@pytest.mark.parametrize(
    ('path', 'shape'),
    [
        (DIGITS, (32, 32)),
        (DEIT, (224, 224)),
        ('classification/weightformer-base-p16_8xb256_in1k-448px.py', (448, 448)),
        (DETECTION.format('deit'), (1024, 1024)),
        (SEGMENTATION.format('deit'), (512, 512)),
    ],
)
def test_the_shape_is_that_of_the_training_crops(path, shape):
    assert input_shape(load(path)) == shape


def test_without_crops_the_shape_is_224():
    assert input_shape(Config(dict(train_pipeline=[dict(type='PackInputs')]))) == (224, 224)
    assert input_shape(Config(dict())) == (224, 224)


@pytest.mark.parametrize('name', ['weightformer', 'deit'])
@pytest.mark.parametrize(
    ('path', 'shrink'), [(DETECTION, shrink_detection), (SEGMENTATION, shrink_segmentation)]
)
def test_backbones_of_every_library_are_built_and_have_a_field(tmp_path, path, shrink, name):
    backbone = build_backbone(shrink(load(path.format(name)), tmp_path))
    batch = torch.randn(1, 3, 48, 48, device=next(backbone.parameters()).device)
    assert (effective_receptive_field(backbone, [batch]) > 0).all()


def test_random_weights_are_initialised_as_in_training():
    cfg = load(DEIT)
    cfg.model.backbone.arch = dict(
        embed_dims=192, num_layers=1, num_heads=3, feedforward_channels=768
    )
    weight = build_backbone(cfg).layers[0].attn.qkv.weight
    assert weight.std().item() == pytest.approx(0.02, rel=0.02)  # model.init_cfg's


def test_random_weights_are_always_the_same_and_never_pretrained(digits_cfg):
    pretrained = dict(type='Pretrained', checkpoint='nowhere.pth')
    digits_cfg.model.backbone.init_cfg = pretrained
    first, second = (build_backbone(digits_cfg).state_dict() for _ in range(2))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert digits_cfg.model.backbone.init_cfg == pretrained  # the config stays


def test_a_checkpoint_with_another_head_is_loaded(digits_cfg, tmp_path):
    weights = {f'backbone.{k}': v + 1 for k, v in build_backbone(digits_cfg).state_dict().items()}
    torch.save(dict(state_dict=weights), tmp_path / 'a.pth')
    digits_cfg.model.head.num_classes = 3
    backbone = build_backbone(digits_cfg, str(tmp_path / 'a.pth'))
    for key, value in backbone.state_dict().items():
        assert torch.equal(value, weights[f'backbone.{key}'])


def test_a_checkpoint_that_does_not_fit_is_an_error(digits_cfg, tmp_path):
    with pytest.raises(UserError, match=r'There is no checkpoint nowhere\.pth'):
        build_backbone(digits_cfg, 'nowhere.pth')
    torch.save(build_backbone(digits_cfg).state_dict(), tmp_path / 'a.pth')
    digits_cfg.model.backbone.dynamic_blocks = 'none'
    with pytest.raises(UserError, match=r'a\.pth does not fit this WeightFormer: .* unexpected: '):
        build_backbone(digits_cfg, str(tmp_path / 'a.pth'))


def test_a_config_without_a_backbone_is_an_error():
    with pytest.raises(UserError, match='whose model has a backbone'):
        build_backbone(Config(dict(model=dict(type='Denoiser'))))
