"""The weight predictors against the equations of the paper and the formulas in their docstrings.

The equations are evaluated here step by step, for one image (H, W, C) at a time.
"""

import inspect
import math
import re

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from mmwf import ops
from mmwf.analysis.flops import MultiplyAddCounter
from mmwf.models.layers import (
    DWCONV_PREDICTORS,
    LINEAR_PREDICTORS,
    DynamicDWConv2d,
    DynamicLinear,
)
from mmwf.models.layers.dynamic_linear import correlate_tokens

GRIDS = [(1, 1), (1, 2), (1, 7), (5, 1), (7, 5)]
WIDTH = 8
SHIFTS = [(i, j) for i in range(3) for j in range(3)]
ALL = [('linear', name) for name in LINEAR_PREDICTORS]
ALL += [('dwconv', name) for name in DWCONV_PREDICTORS]


def tokens(b, h, w):
    return torch.randn(b, h, w, WIDTH, dtype=torch.float64)


# Formulas in the docstrings -----------------------------------------------------------------------


def docstring_formula(predictor, key, **sizes):
    """Evaluates the formula after ``KEY:`` in the docstring of a predictor."""
    match = re.search(rf'^{key}: (.+)$', inspect.getdoc(predictor), flags=re.MULTILINE)
    assert match, f'Expected a line "{key}: ..." in the docstring of {type(predictor).__name__}.'
    return eval(match[1], {'__builtins__': {}}, sizes)


@pytest.mark.parametrize('width', [8, 12])
@pytest.mark.parametrize('out_width', [32, 4])  # wider than C as for fc1, narrower as for fc2
@pytest.mark.parametrize('grid', GRIDS + [(14, 14)])
@pytest.mark.parametrize(('kind', 'name'), ALL)
@torch.no_grad()
def test_counts_are_those_of_the_docstring(kind, name, grid, out_width, width):
    if kind == 'linear':
        predictor = LINEAR_PREDICTORS[name](width, out_width)
    else:
        predictor = DWCONV_PREDICTORS[name](width, 3)
    h, w = grid
    pooled = math.ceil(h * w / 2) if 1 in grid else (h // 2) * (w // 2)
    sizes = dict(H=h, W=w, N=h * w, M=pooled, C=width, D=out_width, R=math.ceil(width / 4), K=3)

    parameters = sum(p.numel() for p in predictor.parameters())
    assert docstring_formula(predictor, 'Parameters', **sizes) == parameters

    x = torch.randn(1, h, w, width)
    # The naive backend evaluates products in the order of the paper's equations.
    with ops.use_backend('naive'), MultiplyAddCounter() as counter:
        predictor(x)
    assert docstring_formula(predictor, 'Multiply-adds', **sizes) == counter.total


def test_the_correlation_scales_before_it_sums():
    # The sum over 1024 pooled tokens is 4 million, and the largest fp16 number is 65504.
    x = torch.full((1, 64, 64, 4), 64.0, dtype=torch.float16)
    assert_close(correlate_tokens(x), torch.full((1, 4, 4), 1024.0).half(), rtol=1e-2, atol=0)


# Equations of the paper ---------------------------------------------------------------------------


def silu(x):
    return x / (1 + torch.exp(-x))


def gelu(x):
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def pool_2x2(image, keep_odd):
    """2 x 2 average pooling of (H, W, C); an odd last row or column is dropped or kept."""
    h, w, _ = image.shape
    rounding = math.ceil if keep_odd else math.floor
    cells = [
        image[2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean(dim=(0, 1))
        for i in range(rounding(h / 2))
        for j in range(rounding(w / 2))
    ]
    return torch.stack(cells)


def bilateral_by_hand(predictor, image):
    """Paper eq. 8, with the two projections side by side as in the released model."""
    h, w, c = image.shape
    wa, wb = predictor.proj.weight[: c // 4], predictor.proj.weight[c // 4 :]
    ba, bb = predictor.proj.bias[: c // 4], predictor.proj.bias[c // 4 :]
    delta = 0
    for token in pool_2x2(image, keep_odd=1 in (h, w)):
        left = silu(wa @ token + ba) @ predictor.u
        right = silu(wb @ token + bb) @ predictor.v
        delta = delta + torch.outer(left, right) / (math.sqrt(c) * h * w)
    return delta


def correlation_by_hand(image):
    h, w, _ = image.shape
    pooled = pool_2x2(image, keep_odd=1 in (h, w))
    return sum(torch.outer(token, token) for token in pooled) / (h * w)


def unpooled_by_hand(predictor, image):
    tokens = [token for row in image for token in row]
    correlation = sum(torch.outer(token, token) for token in tokens) / len(tokens)
    return predictor.left @ correlation @ predictor.right


def deep_by_hand(predictor, image):
    inner = predictor.inner_left @ correlation_by_hand(image) @ predictor.inner_right
    return predictor.outer_left @ silu(inner) @ predictor.outer_right


def linear_gap_by_hand(predictor, image):
    first, _, second = predictor.mlp
    hidden = gelu(first.weight @ image.mean(dim=(0, 1)) + first.bias)
    rows = (second.weight @ hidden).chunk(4)
    return sum(torch.outer(row[:WIDTH], row[WIDTH:]) for row in rows)


LINEAR_BY_HAND = {
    'gap': linear_gap_by_hand,
    'linear': lambda p, image: p.left @ correlation_by_hand(image) @ p.right,
    'nonlinear': lambda p, image: silu(p.left @ correlation_by_hand(image) @ p.right),
    'unpooled': unpooled_by_hand,
    'deep': deep_by_hand,
    'bilateral': bilateral_by_hand,
}


@pytest.mark.parametrize('grid', [*GRIDS, (2, 2), (4, 6)])
@pytest.mark.parametrize('name', LINEAR_BY_HAND)
@torch.no_grad()
def test_a_dynamic_linear_layer_follows_the_equation_of_the_paper(name, grid, randomize):
    layer = randomize(DynamicLinear(WIDTH, 4 * WIDTH, name), std=1).double()
    x = tokens(2, *grid)
    for image, actual in zip(x, layer(x), strict=True):
        delta = LINEAR_BY_HAND[name](layer.predictor, image)
        columns = [column / (column.square().sum().sqrt() + 1) for column in delta.T]
        weight = layer.weight + torch.stack(columns, dim=1)
        expected = torch.einsum('hwc,cd->hwd', image, weight) + layer.bias
        assert (actual - F.linear(image, layer.weight.T, layer.bias)).abs().max() > 1e-3
        assert_close(actual, expected, rtol=1e-9, atol=1e-9)


def cells_of(image):
    """Average-pools (H, W, C) to a 3 x 3 grid; yields row, column and mean of each cell."""
    h, w, _ = image.shape
    for i in range(3):
        for j in range(3):
            rows = slice(i * h // 3, -(-(i + 1) * h // 3))
            columns = slice(j * w // 3, -(-(j + 1) * w // 3))
            yield i, j, image[rows, columns].mean(dim=(0, 1))


def adaptive_by_hand(predictor, image):
    """Paper eq. 11, before normalisation."""
    first, _, second = predictor.mlp
    delta = torch.zeros(WIDTH, 3, 3, dtype=image.dtype)
    for i, j, mean in cells_of(image):
        hidden = gelu(first.weight[:, :, 0, 0] @ mean + first.bias)
        delta[:, i, j] = second.weight[:, :, 0, 0] @ hidden
    return delta


def dwconv_gap_by_hand(predictor, image):
    mean = image.mean(dim=(0, 1))
    hidden = gelu(predictor.squeeze.weight[:, :, 0, 0] @ mean + predictor.squeeze.bias)
    return (predictor.expand.weight[:, :, 0, 0] @ hidden).reshape(WIDTH, 3, 3)


def conv_3x3_by_hand(image, weight):
    """3 x 3 convolution of (H, W, C) with zero padding."""
    h, w, _ = image.shape
    padded = F.pad(image, (0, 0, 1, 1, 1, 1))
    shifted = [padded[i : i + h, j : j + w] @ weight[:, :, i, j].T for i, j in SHIFTS]
    return sum(shifted)


def conv_by_hand(predictor, image):
    hidden = gelu(conv_3x3_by_hand(image, predictor.reduce.weight) + predictor.reduce.bias)
    delta = torch.zeros(WIDTH, 3, 3, dtype=image.dtype)
    for i, j, mean in cells_of(conv_3x3_by_hand(hidden, predictor.restore.weight)):
        delta[:, i, j] = mean
    return delta


def normalized(delta):
    return delta / (delta.square().sum(dim=(1, 2), keepdim=True).sqrt() + 1)


def amp_dir_by_hand(predictor, image):
    direction = adaptive_by_hand(predictor, image)
    norm = direction.square().sum(dim=(1, 2), keepdim=True).sqrt()
    logits = predictor.amplitude.weight[:, :, 0, 0] @ image.mean(dim=(0, 1))
    return direction / (norm + 1e-6) / (1 + torch.exp(-logits))[:, None, None]


DWCONV_BY_HAND = {
    'gap': lambda p, image: normalized(dwconv_gap_by_hand(p, image)),
    'adaptive': lambda p, image: normalized(adaptive_by_hand(p, image)),
    'amp-dir': amp_dir_by_hand,
    'conv': lambda p, image: normalized(conv_by_hand(p, image)),
}


@pytest.mark.parametrize('grid', [*GRIDS, (2, 4)])
@pytest.mark.parametrize('name', DWCONV_BY_HAND)
@torch.no_grad()
def test_a_dynamic_convolution_follows_the_equation_of_the_paper(name, grid, randomize):
    layer = randomize(DynamicDWConv2d(WIDTH, predictor=name), std=1).double()
    h, w = grid
    x = tokens(2, h, w)
    for image, actual in zip(x, layer(x), strict=True):
        delta = DWCONV_BY_HAND[name](layer.predictor, image)
        kernel = layer.weight[:, 0] + delta
        padded = F.pad(image, (0, 0, 1, 1, 1, 1))
        shifted = [padded[i : i + h, j : j + w] * kernel[:, i, j] for i, j in SHIFTS]
        assert delta.abs().max() > 0
        assert_close(actual, sum(shifted) + layer.bias, rtol=1e-9, atol=1e-9)
