"""The dynamic layers. A new entry in one of the two dicts of predictors is tested by existing."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from mmwf import ops
from mmwf.models.layers import (
    DWCONV_PREDICTORS,
    LINEAR_PREDICTORS,
    DynamicDWConv2d,
    DynamicLinear,
)
from mmwf.models.layers.predictor import WeightPredictor

GRIDS = [(1, 1), (1, 7), (5, 1), (7, 5)]
WIDTH = 8
LINEARS = [('linear', name) for name in LINEAR_PREDICTORS]
DWCONVS = [('dwconv', name) for name in DWCONV_PREDICTORS]
all_predictors = pytest.mark.parametrize(('kind', 'name'), LINEARS + DWCONVS)


def build(kind, name):
    if kind == 'linear':
        return DynamicLinear(WIDTH, 3 * WIDTH + 4, predictor=name)
    return DynamicDWConv2d(WIDTH, predictor=name)


def tokens(b=3, h=7, w=5, dtype=torch.float64):
    return torch.randn(b, h, w, WIDTH, dtype=dtype)


def static_forward(layer, x):
    """What the layer computes without a prediction."""
    if isinstance(layer, DynamicLinear):
        return F.linear(x, layer.weight.T, layer.bias)
    image = x.permute(0, 3, 1, 2)
    return F.conv2d(image, layer.weight, layer.bias, padding=1, groups=WIDTH).permute(0, 2, 3, 1)


@all_predictors
@pytest.mark.parametrize('grid', GRIDS)
def test_any_grid_will_do(kind, name, grid, randomize):
    layer = randomize(build(kind, name)).double()
    x = tokens(2, *grid).requires_grad_()
    out = layer(x)
    assert out.shape == (2, *grid, layer.bias.numel())
    out.square().sum().backward()
    assert out.isfinite().all() and x.grad.isfinite().all()


@all_predictors
def test_gradients_reach_every_parameter(kind, name, randomize):
    layer = randomize(build(kind, name)).double()
    (layer(tokens()) * torch.randn(layer.bias.numel())).square().sum().backward()
    for parameter_name, parameter in layer.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
        assert parameter.grad.abs().max() > 0, parameter_name


@all_predictors
def test_gradients_are_those_of_finite_differences(kind, name, randomize):
    layer = randomize(build(kind, name)).double()
    x = tokens(2, 3, 2).requires_grad_()
    assert torch.autograd.gradcheck(layer, x, fast_mode=True)


@all_predictors
def test_other_images_do_not_change_mine(kind, name, randomize):
    layer = randomize(build(kind, name)).double()
    x = tokens()
    others = torch.cat([100 * torch.randn_like(x[:1]), x[1:2], torch.zeros_like(x[:1])])
    assert_close(layer(others)[1], layer(x)[1])
    assert_close(layer(x[1:2])[0], layer(x)[1])


@all_predictors
def test_every_image_gets_its_own_weight(kind, name, randomize):
    predictor = randomize(build(kind, name)).double().predictor
    delta = predictor(tokens())
    assert (delta[0] - delta[1]).abs().max() > 1e-6


@all_predictors
def test_a_prediction_of_zero_leaves_the_static_layer(kind, name, randomize, monkeypatch):
    layer = randomize(build(kind, name)).double()
    x = tokens()
    assert (layer(x) - static_forward(layer, x)).abs().max() > 1e-6
    predict = layer.predictor.predict
    monkeypatch.setattr(layer.predictor, 'predict', lambda x: torch.zeros_like(predict(x)))
    assert_close(layer(x), static_forward(layer, x))


@all_predictors
def test_the_update_is_smaller_than_one(kind, name, randomize):
    predictor = randomize(build(kind, name), std=30).double().predictor
    delta = predictor(100 * tokens())
    norms = torch.linalg.vector_norm(delta, dim=predictor.norm_dims)
    assert norms.max() < 1 + 1e-9 and norms.max() > 0.1


@all_predictors
def test_backends_agree(kind, name, randomize):
    layer = randomize(build(kind, name)).double()
    x = tokens()
    with ops.use_backend('naive'):
        expected = layer(x)
    assert_close(layer(x), expected)


@all_predictors
@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_prediction_stays_in_float32_under_autocast(kind, name, training, dtype, randomize):
    layer = randomize(build(kind, name)).train(training)
    x = tokens(dtype=torch.float32).to(dtype)
    expected = layer.predictor(x.float())
    with torch.autocast('cpu', dtype=dtype):
        delta = layer.predictor(x)
        out = layer(x)
    assert delta.dtype == torch.float32
    assert_close(delta, expected)
    assert_close(out.float(), layer(x.float()), rtol=0.05, atol=0.1)


@all_predictors
def test_gradients_under_autocast_are_finite(kind, name, randomize):
    layer = randomize(build(kind, name))
    with torch.autocast('cpu', dtype=torch.bfloat16):
        loss = layer(tokens(dtype=torch.bfloat16)).float().square().mean()
    loss.backward()
    assert all(p.grad.dtype == torch.float32 for p in layer.parameters())
    assert all(p.grad.isfinite().all() for p in layer.parameters())


@pytest.mark.parametrize('name', LINEAR_PREDICTORS)
@pytest.mark.parametrize('widths', [(6, 24), (8, 30), (5, 7)])
def test_widths_that_do_not_fit_are_named_at_construction(name, widths):
    try:
        layer = DynamicLinear(*widths, predictor=name)
    except ValueError as error:
        assert f'{widths[0]} -> {widths[1]}' in str(error)
    else:  # a predictor without a constraint must work
        assert layer(torch.randn(1, 4, 4, widths[0])).shape == (1, 4, 4, widths[1])


@pytest.mark.parametrize('widths', [(6, 24), (8, 30)])
def test_the_bilateral_predictor_refuses_widths_that_are_no_multiple_of_four(widths):
    with pytest.raises(ValueError, match=f'multiples of 4, got {widths[0]} -> {widths[1]}'):
        DynamicLinear(*widths, predictor='bilateral')


@pytest.mark.parametrize(
    ('layer', 'known'), [(DynamicLinear, LINEAR_PREDICTORS), (DynamicDWConv2d, DWCONV_PREDICTORS)]
)
def test_an_unknown_predictor_lists_the_known_ones(layer, known):
    with pytest.raises(ValueError, match='magic') as error:
        layer(8, 3, predictor='magic')
    assert all(repr(name) in str(error.value) for name in known)


def test_a_predictor_without_predict_names_itself():
    class Forgetful(WeightPredictor):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

    with pytest.raises(NotImplementedError, match='Forgetful'):
        Forgetful()(tokens())


@all_predictors
def test_layers_start_as_in_the_released_code(kind, name):
    layer = DynamicLinear(64, 256, name) if kind == 'linear' else DynamicDWConv2d(256, 3, name)
    for parameter in (layer.weight, layer.bias):
        assert parameter.std().item() == pytest.approx(0.02, rel=0.2)
        assert abs(parameter.mean().item()) < 0.005


# Against the formulas of the paper, computed here step by step ------------------------------------


def silu(x):
    return x / (1 + torch.exp(-x))


def pool_2x2(image, keep_odd):
    """Means over 2 x 2 cells of (H, W, C); an odd last row or column is dropped or kept."""
    h, w, _ = image.shape
    rounding = math.ceil if keep_odd else math.floor
    cells = [
        image[2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean(dim=(0, 1))
        for i in range(rounding(h / 2))
        for j in range(rounding(w / 2))
    ]
    return torch.stack(cells)


def bilateral_by_hand(layer, image):
    """SPEC section 2 for one image (H, W, C), with the released layout of the joint projection."""
    h, w, c = image.shape
    predictor = layer.predictor
    pooled = pool_2x2(image, keep_odd=1 in (h, w))
    wa, wb = predictor.proj.weight[: c // 4], predictor.proj.weight[c // 4 :]
    ba, bb = predictor.proj.bias[: c // 4], predictor.proj.bias[c // 4 :]
    delta = torch.zeros_like(layer.weight)
    for token in pooled:
        left = silu(wa @ token + ba) @ predictor.u
        right = silu(wb @ token + bb) @ predictor.v
        delta = delta + torch.outer(left, right) / (math.sqrt(c) * h * w)
    columns = [column / (column.square().sum().sqrt() + 1) for column in delta.T]
    weight = layer.weight + torch.stack(columns, dim=1)
    return torch.einsum('hwc,cd->hwd', image, weight) + layer.bias


@pytest.mark.parametrize('grid', [*GRIDS, (2, 2), (1, 2), (4, 6)])
def test_the_bilateral_layer_is_the_papers_formula(grid, randomize):
    layer = randomize(DynamicLinear(WIDTH, 4 * WIDTH), std=1).double()
    x = tokens(2, *grid)
    expected = torch.stack([bilateral_by_hand(layer, image) for image in x])
    assert (expected - static_forward(layer, x)).abs().max() > 1e-3
    assert_close(layer(x), expected, rtol=1e-9, atol=1e-9)


def gelu(x):
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def adaptive_by_hand(layer, image):
    """SPEC section 3 for one image (H, W, C)."""
    h, w, c = image.shape
    first, _, second = layer.predictor.mlp
    delta = torch.zeros(c, 3, 3, dtype=image.dtype)
    for i in range(3):
        for j in range(3):
            rows = slice(i * h // 3, -(-(i + 1) * h // 3))
            columns = slice(j * w // 3, -(-(j + 1) * w // 3))
            mean = image[rows, columns].mean(dim=(0, 1))
            hidden = gelu(first.weight[:, :, 0, 0] @ mean + first.bias)
            delta[:, i, j] = second.weight[:, :, 0, 0] @ hidden
    padded = F.pad(image, (0, 0, 1, 1, 1, 1))
    out = torch.zeros_like(image)
    for k in range(c):
        kernel = layer.weight[k, 0] + delta[k] / (delta[k].square().sum().sqrt() + 1)
        for i in range(h):
            for j in range(w):
                out[i, j, k] = (padded[i : i + 3, j : j + 3, k] * kernel).sum() + layer.bias[k]
    return out


@pytest.mark.parametrize('grid', [*GRIDS, (2, 4)])
@torch.no_grad()
def test_the_adaptive_layer_is_the_papers_formula(grid, randomize):
    layer = randomize(DynamicDWConv2d(WIDTH), std=1).double()
    x = tokens(2, *grid)
    expected = torch.stack([adaptive_by_hand(layer, image) for image in x])
    assert (expected - static_forward(layer, x)).abs().max() > 1e-3
    assert_close(layer(x), expected, rtol=1e-9, atol=1e-9)
