"""Multi-scale deformable attention, tested against bilinear interpolation as a loop."""

import math

import pytest
import torch
from mmcv.ops import MultiScaleDeformableAttention
from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction
from torch.testing import assert_close

SHAPES = torch.tensor([[3, 4], [2, 2]])
STARTS = torch.tensor([0, 12])


def inputs(dtype=torch.float64):
    """Values (B 2, K 16, M 2, D 3), locations (2, Q 5, 2, L 2, P 2, 2), weights (2, 5, 2, 2, 2)."""
    value = torch.randn(2, 16, 2, 3, dtype=dtype)
    locations = torch.rand(2, 5, 2, 2, 2, 2, dtype=dtype) * 1.2 - 0.1
    weights = torch.rand(2, 5, 2, 2, 2, dtype=dtype)
    return value, locations, weights / weights.sum((-2, -1), keepdim=True)


def attend(value, locations, weights):
    args = value, SHAPES, STARTS, locations, weights, 64
    return MultiScaleDeformableAttnFunction.apply(*args)


def attend_loop(value, locations, weights):
    out = torch.zeros(2, 5, 2, 3, dtype=value.dtype)
    for b, q, m, level, p in torch.cartesian_prod(
        *(torch.arange(n) for n in weights.shape)
    ).tolist():
        height, width = SHAPES[level].tolist()
        x, y = (locations[b, q, m, level, p] * torch.tensor([width, height]) - 0.5).tolist()
        for i in (math.floor(y), math.floor(y) + 1):
            for j in (math.floor(x), math.floor(x) + 1):
                if 0 <= i < height and 0 <= j < width:
                    pixel = value[b, STARTS[level] + i * width + j, m]
                    share = (1 - abs(y - i)) * (1 - abs(x - j))
                    out[b, q, m] += weights[b, q, m, level, p] * share * pixel
    return out.flatten(2)


def test_deformable_attention_sums_bilinear_samples():
    args = inputs()
    out = attend(*args)
    assert out.shape == (2, 5, 6)
    assert_close(out, attend_loop(*args))


def test_deformable_attention_has_the_right_gradients():
    args = tuple(x.requires_grad_() for x in inputs())
    assert torch.autograd.gradcheck(attend, args)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_deformable_attention_keeps_the_precision_of_its_values(dtype):
    value, *rest = inputs(dtype)
    value.requires_grad_()
    with torch.autocast('cpu', dtype):
        out = attend(value, *(x.float() for x in rest))
    out.sum().backward()
    assert out.dtype == value.grad.dtype == dtype
    expected = attend(value.double(), *(x.double() for x in rest))
    assert_close(out, expected.to(dtype))


@pytest.mark.parametrize('amp', [True, False])
def test_the_attention_layer_trains(amp):
    layer = MultiScaleDeformableAttention(8, num_heads=2, num_levels=2, num_points=2)
    query, value = torch.randn(5, 2, 8), torch.randn(16, 2, 8, requires_grad=True)
    points = torch.rand(2, 5, 2, 2)
    with torch.autocast('cpu', torch.bfloat16, enabled=amp):
        out = layer(
            query,
            value=value,
            reference_points=points,
            spatial_shapes=SHAPES,
            level_start_index=STARTS,
        )
    out.float().square().sum().backward()
    assert value.grad.abs().sum() > 0
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())
