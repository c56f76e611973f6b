"""Multiply-adds, against arithmetic by hand and the paper's tables."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from mmwf.analysis.flops import MultiplyAddCounter, count_multiply_adds
from mmwf.libraries import import_task_library
from mmwf.models import WeightFormer

ROOT = Path(__file__).parents[2]
DETECTION = 'configs/detection/vitdet-cascade-mask-rcnn_{}-p16_16xb4-amp-lsj-100e_coco.py'
SEGMENTATION = 'configs/segmentation/upernet_{}-p16_8xb2-160k_ade20k-512x512.py'
CLASSIFICATION = 'configs/classification/{}-p16_8xb256_in1k.py'


def count(module, *inputs):
    with torch.no_grad(), MultiplyAddCounter() as counter:
        module(*inputs)
    return counter.total


@pytest.mark.parametrize(
    ('module', 'shape', 'expected'),
    [
        (nn.Linear(3, 5), (2, 7, 3), 2 * 7 * 3 * 5),
        (nn.Linear(3, 5, bias=False), (7, 3), 7 * 3 * 5),
        (nn.Conv2d(4, 6, 3, padding=1), (2, 4, 5, 7), 2 * 5 * 7 * 9 * 4 * 6),
        (nn.Conv2d(4, 4, 3, groups=4), (1, 4, 6, 6), 4 * 4 * 9 * 4),
        (nn.Conv2d(3, 8, 16, stride=16), (1, 3, 32, 32), 2 * 2 * 3 * 256 * 8),
        (nn.ConvTranspose2d(4, 2, 2, stride=2), (1, 4, 5, 5), 25 * 4 * 2 * 4),
        (nn.Sequential(nn.LayerNorm(4), nn.GELU(), nn.Dropout(0.5)), (3, 4), 0),
        (nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), nn.AvgPool2d(2)), (1, 4, 6, 6), 0),
    ],
)
def test_layers_cost_what_arithmetic_says(module, shape, expected):
    assert count(module.eval(), torch.randn(shape)) == expected


def test_attention_is_counted():
    q, k, v = torch.randn(3, 2, 4, 10, 8).unbind()
    expected = 2 * 2 * 4 * 10 * 10 * 8
    assert count(F.scaled_dot_product_attention, q, k, v) == expected
    assert count(lambda: (q @ k.transpose(-2, -1)).softmax(-1) @ v) == expected


def test_an_unknown_operation_is_an_error_that_names_it():
    with pytest.raises(NotImplementedError, match=r'The cost of aten\.cumsum is not known'):
        count(lambda x: torch.cumsum(x, 0), torch.randn(3))


class Backboned(nn.Module):
    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone


def test_a_small_weightformer_costs_what_arithmetic_says():
    """One static and one dynamic block, width 8, 4 x 4 tokens, of which 2 x 2 after pooling."""
    c, d, n, m = 8, 16, 16, 4
    model = Backboned(WeightFormer(dict(embed_dims=c, depth=2, mlp_ratio=2), patch_size=4))
    patch_embed = n * 3 * 16 * c
    static = n * 9 * c + 2 * n * c * d
    r, s = c // 4, d // 4
    predict = m * c * (r + s) + m * r * c + m * s * d + m * c * d  # the paper's order
    dwconv = 9 * c * c * 2
    assert count_multiply_adds(model, (16, 16))['backbone'] == (
        patch_embed + 2 * static + predict + dwconv
    )


def test_the_order_of_evaluation_is_the_papers_by_default():
    model = Backboned(WeightFormer(dict(embed_dims=16, depth=2, mlp_ratio=4), patch_size=4))
    paper = count_multiply_adds(model, (128, 128))['total']
    assert count_multiply_adds(model, (128, 128), backend='eager')['total'] < paper


def build(path):
    cfg = Config.fromfile(ROOT / path)
    import_task_library(cfg)
    init_default_scope(cfg.default_scope)
    return MODELS.build(cfg.model)


@pytest.mark.parametrize(
    ('name', 'backbone_and_neck', 'total'),
    [('weightformer-tiny', 77e9, 566e9), ('deit-tiny', 106e9, 594e9)],
)
def test_the_papers_detection_costs(name, backbone_and_neck, total):
    model = build(DETECTION.format(name))
    counts = count_multiply_adds(model, (1024, 1024))
    assert counts['backbone'] + counts['neck'] == pytest.approx(backbone_and_neck, rel=5e-3)
    assert counts['total'] == pytest.approx(total, rel=5e-3)
    assert counts['neck'] == pytest.approx(53.7e9, rel=1e-3)
    assert counts['rpn_head'] == pytest.approx(103.3e9, rel=1e-3)
    assert counts['bbox_head'] == pytest.approx(385.6e9, rel=1e-3)
    parts = ('backbone', 'neck', 'rpn_head', 'bbox_head')
    assert counts['total'] == sum(counts[part] for part in parts)
    assert not any(p.is_meta for p in model.parameters())  # the model is unchanged

    with_masks = count_multiply_adds(model, (1024, 1024), mask_head=True)
    # Three heads on 100 boxes: four convolutions, one transposed, the class maps.
    one = 14 * 14 * (4 * 9 * 256 * 256 + 4 * 256 * 256 + 4 * 256 * 80)
    assert with_masks['mask_head'] == 3 * 100 * one
    assert with_masks['total'] - counts['total'] == with_masks['mask_head']


@pytest.mark.parametrize(
    ('name', 'channels'),
    [
        ('retinanet_weightformer-tiny-p16_16xb4-amp-lsj-100e_coco', 9 * (80 + 4)),
        ('fcos_weightformer-tiny-p16_16xb4-amp-lsj-100e_coco', 80 + 4 + 1),
    ],
)
def test_the_head_of_a_one_stage_detector_costs_what_arithmetic_says(name, channels):
    counts = count_multiply_adds(build(f'configs/detection/{name}.py'), (1024, 1024))
    pixels = sum((1024 // stride) ** 2 for stride in (8, 16, 32, 64, 128))
    assert counts['bbox_head'] == pixels * 9 * 256 * (2 * 4 * 256 + channels)
    assert counts['total'] == counts['backbone'] + counts['neck'] + counts['bbox_head']


@pytest.mark.parametrize(
    ('name', 'total', 'params'),
    [
        ('weightformer-tiny', 1.124e9, 7_074_184),
        ('weightformer-small', 4.428e9, 27_492_136),
        ('deit-tiny', 1.254e9, 5_717_416),
    ],
)
def test_the_classifiers_cost_at_224(name, total, params):
    counts = count_multiply_adds(build(CLASSIFICATION.format(name)), (224, 224))
    assert counts['total'] == pytest.approx(total, rel=5e-4)
    assert counts['params'] == params
    assert counts['neck'] == 0


@pytest.mark.filterwarnings('ignore:Default ``avg_non_ignore``')
@pytest.mark.parametrize(
    ('name', 'backbone_and_neck', 'params'),
    [
        ('weightformer-tiny', 6.76e9, 12.08e6),  # paper: 7 G, 12 M
        ('weightformer-small', 26.69e9, 46.83e6),  # 27 G
        ('deit-tiny', 11.34e9, 10.88e6),  # 11 M
        ('deit-small', 35.37e9, 41.70e6),  # 35 G, 43 M
    ],
)
def test_the_papers_segmentation_costs(name, backbone_and_neck, params):
    counts = count_multiply_adds(build(SEGMENTATION.format(name)), (512, 512))
    assert counts['backbone'] + counts['neck'] == pytest.approx(backbone_and_neck, rel=1e-3)
    assert counts['params'] == pytest.approx(params, rel=1e-3)


@pytest.mark.filterwarnings('ignore:Default ``avg_non_ignore``')
def test_the_papers_total_holds_with_and_without_the_auxiliary_head():
    model = build(SEGMENTATION.format('weightformer-tiny'))
    counts = count_multiply_adds(model, (512, 512))
    assert counts['total'] == pytest.approx(37.33e9, rel=1e-3)  # paper: 38 G
    assert counts['params_without_auxiliary'] == pytest.approx(11.60e6, rel=1e-3)
    both = count_multiply_adds(model, (512, 512), auxiliary_head=True)
    assert both['total'] == pytest.approx(37.82e9, rel=1e-3)


@pytest.mark.filterwarnings('ignore:Default ``avg_non_ignore``')
def test_a_segmentors_auxiliary_head_is_counted_on_request():
    import_task_library(SimpleNamespace(get=lambda key: 'mmseg'))
    init_default_scope('mmseg')
    head = dict(type='FCNHead', in_channels=8, num_convs=1, num_classes=3, concat_input=False)
    model = MODELS.build(
        dict(
            type='EncoderDecoder',
            backbone=dict(type='mmwf.WeightFormer', arch=dict(embed_dims=8, depth=1, mlp_ratio=1)),
            decode_head=dict(head, channels=8, in_index=0),
            auxiliary_head=dict(head, channels=4, in_index=0),
        )
    )
    counts = count_multiply_adds(model, (32, 32))
    assert counts['decode_head'] == 4 * (9 * 8 * 8 + 8 * 3)
    assert 'auxiliary_head' not in counts
    both = count_multiply_adds(model, (32, 32), auxiliary_head=True)
    assert both['auxiliary_head'] == 4 * (9 * 8 * 4 + 4 * 3) == both['total'] - counts['total']
    auxiliary = sum(p.numel() for p in model.auxiliary_head.parameters())
    assert counts['params'] - counts['params_without_auxiliary'] == auxiliary > 0


# DiT's paper (arXiv 2212.09748, table 4).
@pytest.mark.parametrize(('arch', 'giga'), [('dit-small', 6.06), ('dit-base', 23.01)])
def test_a_denoiser_costs_what_its_paper_says(arch, giga):
    denoiser = dict(type='mmwf.Denoiser', arch=arch)
    model = MODELS.build(dict(type='mmwf.GaussianDiffusion', denoiser=denoiser))
    counts = count_multiply_adds(model, (224, 224))
    assert counts['denoiser'] / 1e9 == pytest.approx(giga, abs=0.006)
    assert counts['total'] == counts['denoiser']


def test_a_model_without_backbone_is_an_error():
    with pytest.raises(ValueError, match='a backbone or a denoiser, got Linear'):
        count_multiply_adds(nn.Linear(2, 2), (32, 32))
