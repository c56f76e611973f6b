"""CARAFE, PSA masks and masked convolution, tested against their definitions as loops."""

import pytest
import torch
import torch.nn.functional as F
from mmcv import _ext
from mmcv.ops import CARAFEPack, MaskedConv2d, PSAMask, carafe, carafe_naive
from torch.testing import assert_close


def carafe_inputs(dtype=torch.float64):
    """Features (2, 4, 3, 5) and masks (2, 2 groups * 3 * 3, 6, 10)."""
    return torch.randn(2, 4, 3, 5, dtype=dtype), torch.rand(2, 18, 6, 10, dtype=dtype)


def carafe_loop(features, masks):
    padded = F.pad(features, [1] * 4)
    out = features.new_zeros(2, 4, 6, 10)
    for c in range(4):
        for y in range(6):
            for x in range(10):
                for i in range(3):
                    for j in range(3):
                        weight = masks[:, c // 2 * 9 + i * 3 + j, y, x]
                        out[:, c, y, x] += weight * padded[:, c, y // 2 + i, x // 2 + j]
    return out


@pytest.mark.parametrize('function', [carafe, carafe_naive])
def test_carafe_weights_the_neighbours_of_each_source_pixel(function):
    args = carafe_inputs()
    assert_close(function(*args, 3, 2, 2), carafe_loop(*args))


def test_carafe_has_the_right_gradients():
    args = tuple(x.requires_grad_() for x in carafe_inputs())
    assert torch.autograd.gradcheck(lambda *xs: carafe(*xs, 3, 2, 2), args, fast_mode=True)


def test_the_naive_gradients_are_those_of_carafe():
    # mmcv's carafe_naive asserts CUDA before it calls this.
    features, masks = (x.requires_grad_() for x in carafe_inputs())
    out = carafe(features, masks, 3, 2, 2)
    grad_output = torch.randn_like(out)
    expected = torch.autograd.grad(out, (features, masks), grad_output)
    grads = torch.empty_like(features), torch.empty_like(masks)
    args = dict(kernel_size=3, group_size=2, scale_factor=2)
    _ext.carafe_naive_backward(grad_output, features, masks, *grads, **args)
    assert_close(grads, expected)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_carafe_keeps_the_precision(dtype):
    features, masks = (x.requires_grad_() for x in carafe_inputs(dtype))
    out = carafe(features, masks, 3, 2, 2)
    out.sum().backward()
    assert out.dtype == features.grad.dtype == masks.grad.dtype == dtype
    assert_close(out, carafe(features.double(), masks.double(), 3, 2, 2).to(dtype))


def test_the_carafe_layer_trains_under_autocast():
    layer, x = CARAFEPack(4, 2), torch.randn(1, 4, 3, 5, requires_grad=True)
    with torch.autocast('cpu', torch.bfloat16):
        out = layer(x)
    assert out.shape == (1, 4, 6, 10)
    out.float().sum().backward()
    assert x.grad.any()


def psa_loop(masks, height, width, kind):
    """The definition for masks (B, h w, H, W): an (h, w) mask centred at each pixel."""
    out = masks.new_zeros(len(masks), masks.shape[2] * masks.shape[3], *masks.shape[2:])
    h, w = masks.shape[2:]
    for y in range(h):
        for x in range(w):
            for i in range(height):
                for j in range(width):
                    v, u = y + i - (height - 1) // 2, x + j - (width - 1) // 2
                    if 0 <= v < h and 0 <= u < w:
                        value = masks[:, i * width + j, y, x]
                        if kind == 'collect':
                            out[:, v * w + u, y, x] = value
                        else:
                            out[:, y * w + x, v, u] = value
    return out


@pytest.mark.parametrize('kind', ['collect', 'distribute'])
@pytest.mark.parametrize('size', [(3, 3), (5, 1), (2, 4), (9, 7)])
def test_psa_masks_are_spread_over_the_image(kind, size):
    masks = torch.randn(2, size[0] * size[1], 4, 5, dtype=torch.float64, requires_grad=True)
    layer = PSAMask(kind, size)
    assert_close(layer(masks), psa_loop(masks, *size, kind))
    assert torch.autograd.gradcheck(layer, masks, fast_mode=True)


@pytest.mark.parametrize('kernel', [(1, 1), (3, 3), (5, 3)])
def test_masked_convolution_computes_only_at_the_mask(kernel):
    layer = MaskedConv2d(3, 2, kernel, padding=(kernel[0] // 2, kernel[1] // 2))
    x, mask = torch.randn(1, 3, 6, 7), torch.rand(1, 6, 7) > 0.5
    assert_close(layer(x, mask.float()), layer(x) * mask)
    assert layer(x, torch.zeros(1, 6, 7)).eq(0).all()
