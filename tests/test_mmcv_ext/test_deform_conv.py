"""Deformable convolution, tested against plain convolution, a loop and numerical derivatives."""

import copy
import math
import pickle

import pytest
import torch
import torch.nn.functional as F
from mmcv.cnn import build_conv_layer
from mmcv.ops import (
    DeformConv2d,
    DeformConv2dPack,
    ModulatedDeformConv2dPack,
    SAConv2d,
    deform_conv2d,
    modulated_deform_conv2d,
)
from mmengine.registry import MODELS
from torch.testing import assert_close

#: Stride, padding, dilation, groups, offset groups.
GEOMETRIES = [(1, 0, 1, 1, 1), (2, 1, 1, 2, 1), (1, 2, 2, 1, 2), ((2, 1), (1, 0), 1, 1, 1)]


def inputs(stride, padding, dilation, groups, offset_groups, dtype=torch.float64):
    """Input (2, 4, 6, 5), offset, mask, weight (2, 4 / groups, 3, 3), bias (2,)."""
    x = torch.randn(2, 4, 6, 5, dtype=dtype)
    weight = torch.randn(2, 4 // groups, 3, 3, dtype=dtype)
    shape = F.conv2d(x, weight, None, stride, padding, dilation, groups).shape[2:]
    offset = torch.randn(2, 18 * offset_groups, *shape, dtype=dtype)
    mask = torch.rand(2, 9 * offset_groups, *shape, dtype=dtype)
    return x, offset, mask, weight, torch.randn(2, dtype=dtype)


def pixel(image, y, x):
    """Bilinear sample of (C, H, W) with zeros around the image."""
    value = torch.zeros_like(image[:, 0, 0])
    for i in (math.floor(y), math.floor(y) + 1):
        for j in (math.floor(x), math.floor(x) + 1):
            if 0 <= i < image.shape[1] and 0 <= j < image.shape[2]:
                value += (1 - abs(y - i)) * (1 - abs(x - j)) * image[:, i, j]
    return value


def convolve_loop(x, offset, mask, weight, stride, padding, dilation, groups, offset_groups):
    """The definition, for groups = 1 or 2."""
    (dy, dx), (py, px) = (v if isinstance(v, tuple) else (v, v) for v in (stride, padding))
    out = x.new_zeros(2, 2, *offset.shape[2:])
    per_group = 4 // offset_groups
    for b in range(2):
        for i in range(out.shape[2]):
            for j in range(out.shape[3]):
                patch = x.new_zeros(4, 9)
                for g in range(offset_groups):
                    channels = slice(g * per_group, (g + 1) * per_group)
                    for k in range(9):
                        y0 = i * dy - py + k // 3 * dilation
                        x0 = j * dx - px + k % 3 * dilation
                        move_y, move_x = offset[b, 2 * (9 * g + k) :, i, j][:2].tolist()
                        sample = pixel(x[b, channels], y0 + move_y, x0 + move_x)
                        patch[channels, k] = sample * mask[b, 9 * g + k, i, j]
                for o in range(2):
                    inputs = patch if groups == 1 else patch[2 * o : 2 * o + 2]
                    out[b, o, i, j] = (inputs * weight[o].flatten(1)).sum()
    return out


@pytest.mark.parametrize('geometry', GEOMETRIES)
def test_without_offsets_it_is_plain_convolution(geometry):
    x, offset, mask, weight, bias = inputs(*geometry)
    expected = F.conv2d(x, weight, None, *geometry[:4])
    zero, one = torch.zeros_like(offset), torch.ones_like(mask)
    assert_close(deform_conv2d(x, zero, weight, *geometry), expected)
    out = modulated_deform_conv2d(x, zero, one, weight, bias, *geometry)
    assert_close(out, expected + bias[:, None, None])


@pytest.mark.parametrize('geometry', GEOMETRIES)
def test_it_samples_at_the_offsets_and_scales_by_the_mask(geometry):
    x, offset, mask, weight, bias = inputs(*geometry)
    expected = convolve_loop(x, offset, torch.ones_like(mask), weight, *geometry)
    assert_close(deform_conv2d(x, offset, weight, *geometry), expected)
    expected = convolve_loop(x, offset, mask, weight, *geometry)
    out = modulated_deform_conv2d(x, offset, mask, weight, bias, *geometry)
    assert_close(out, expected + bias[:, None, None])
    assert_close(modulated_deform_conv2d(x, offset, mask, weight, None, *geometry), expected)


@pytest.mark.parametrize('geometry', GEOMETRIES[1:3])
def test_it_has_the_right_gradients(geometry):
    x, offset, mask, weight, bias = (v.requires_grad_() for v in inputs(*geometry))
    plain = lambda *args: deform_conv2d(*args, *geometry)  # noqa: E731
    assert torch.autograd.gradcheck(plain, (x, offset, weight), fast_mode=True)
    modulated = lambda *args: modulated_deform_conv2d(*args, *geometry)  # noqa: E731
    args = x, offset, mask, weight, bias
    assert torch.autograd.gradcheck(modulated, args, fast_mode=True)


@pytest.mark.parametrize('kind', [DeformConv2dPack, ModulatedDeformConv2dPack])
def test_new_layers_have_mmcvs_gradient_at_the_border(kind):
    # With offsets of zero, the first row of samples lies at y = -1, where the derivative jumps
    # from 0 to the value of the first row: mmcv takes 0. One image of columns 1, 2, 3; all
    # weights are 1, so tap (i, j) gets the sum of differences of its samples, by hand:
    image = torch.tensor([1.0, 2, 3]).double().expand(1, 1, 3, 3)
    layer = kind(1, 1, kernel_size=2, padding=1, bias=False).double()
    torch.nn.init.ones_(layer.weight)
    out = layer(image)
    modulation = 0.5 if kind is ModulatedDeformConv2dPack else 1.0
    rows = [[1, 3, 5, 3], [2, 6, 10, 6], [2, 6, 10, 6], [1, 3, 5, 3]]
    assert_close(out[0, 0], torch.tensor(rows).double() * modulation)
    out.sum().backward()
    # Below the last row, the values 1 + 2 + 3 fall to 0. Right of the last column, 3 falls to 0
    # in three rows, after two steps of +1: 3 * (2 - 3).
    expected = torch.tensor([-6.0, -3.0] * 4).double() * modulation
    assert_close(layer.conv_offset.bias.grad[:8], expected)


@pytest.mark.parametrize('kind', [DeformConv2dPack, ModulatedDeformConv2dPack])
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_layers_train_under_autocast(kind, dtype):
    layer, x = kind(4, 3, 3, padding=1), torch.randn(2, 4, 6, 5)
    torch.nn.init.normal_(layer.conv_offset.weight, std=0.1)
    expected = layer(x)
    with torch.autocast('cpu', dtype):
        out = layer(x)
    assert out.dtype == dtype
    assert_close(out.float(), expected, rtol=0.05, atol=0.05)
    out.float().square().sum().backward()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in layer.parameters())


@pytest.mark.parametrize('name', ['DCN', 'DCNv2', 'SAC'])
def test_layers_are_registered_and_can_be_pickled(name):
    kind = dict(DCN=DeformConv2dPack, DCNv2=ModulatedDeformConv2dPack, SAC=SAConv2d)[name]
    cfg = dict(type=name, in_channels=4, out_channels=3, kernel_size=3, padding=1)
    layer = MODELS.build({**cfg, **(dict(use_deform=True) if name == 'SAC' else {})})
    assert type(layer) is kind
    assert type(build_conv_layer(dict(type=name), 4, 3, 3)) is kind
    x = torch.randn(1, 4, 6, 6)
    assert_close(pickle.loads(pickle.dumps(layer))(x), layer(x))
    assert_close(copy.deepcopy(layer)(x), layer(x))


def test_an_input_smaller_than_the_kernel_is_padded():
    layer = DeformConv2d(1, 1, 3, padding=1)
    assert layer(torch.randn(1, 1, 2, 2), torch.zeros(1, 18, 2, 2)).shape == (1, 1, 2, 2)


@pytest.mark.parametrize('kind', [DeformConv2dPack, ModulatedDeformConv2dPack])
def test_mmcv_refuses_an_empty_batch(kind):
    with pytest.raises(ValueError, match='output would be 0x2x4x4'):
        kind(1, 2, 3, padding=1)(torch.zeros(0, 1, 4, 4))
