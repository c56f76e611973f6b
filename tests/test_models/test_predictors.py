"""The dynamic layers with every predictor, including those that other modules register."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from mmwf import ops
from mmwf.analysis.flops import MultiplyAddCounter
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
    """The output of the layer without a weight update."""
    if isinstance(layer, DynamicLinear):
        return F.linear(x, layer.weight.T, layer.bias)
    image = x.permute(0, 3, 1, 2)
    return F.conv2d(image, layer.weight, layer.bias, padding=1, groups=WIDTH).permute(0, 2, 3, 1)


@all_predictors
@pytest.mark.parametrize('grid', GRIDS)
def test_any_grid_size_is_accepted(kind, name, grid, randomize):
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
def test_gradients_match_finite_differences(kind, name, randomize):
    layer = randomize(build(kind, name)).double()
    x = tokens(2, 3, 2).requires_grad_()
    assert torch.autograd.gradcheck(layer, x, fast_mode=True)


@all_predictors
def test_outputs_do_not_depend_on_other_images_of_the_batch(kind, name, randomize):
    layer = randomize(build(kind, name)).double()
    x = tokens()
    others = torch.cat([100 * torch.randn_like(x[:1]), x[1:2], torch.zeros_like(x[:1])])
    assert_close(layer(others)[1], layer(x)[1])
    assert_close(layer(x[1:2])[0], layer(x)[1])


@all_predictors
def test_every_image_has_its_own_weight(kind, name, randomize):
    predictor = randomize(build(kind, name)).double().predictor
    delta = ops.dense(predictor(tokens()))
    assert (delta[0] - delta[1]).abs().max() > 1e-6


@all_predictors
def test_with_an_update_of_zero_the_layer_is_static(kind, name, randomize, monkeypatch):
    layer = randomize(build(kind, name)).double()
    x = tokens()
    assert (layer(x) - static_forward(layer, x)).abs().max() > 1e-6
    predict = layer.predictor.predict
    monkeypatch.setattr(
        layer.predictor, 'predict', lambda x: torch.zeros_like(ops.dense(predict(x)))
    )
    assert_close(layer(x), static_forward(layer, x))


@all_predictors
def test_the_norm_of_the_update_is_below_one(kind, name, randomize):
    predictor = randomize(build(kind, name), std=30).double().predictor
    delta = ops.dense(predictor(100 * tokens()))
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
    expected = ops.dense(layer.predictor(x.float()))
    with torch.autocast('cpu', dtype=dtype):
        delta = layer.predictor(x)
        out = layer(x)
    assert ops.dense(delta).dtype == torch.float32
    assert_close(ops.dense(delta), expected)
    assert_close(out.float(), layer(x.float()), rtol=0.05, atol=0.1)


@all_predictors
def test_layers_run_on_the_meta_device(kind, name):
    with torch.device('meta'):
        layer, x = build(kind, name), torch.empty(2, 7, 5, WIDTH)
        assert layer(x).shape == (2, 7, 5, layer.bias.numel())


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
def test_unsupported_widths_are_named_at_construction(name, widths):
    try:
        layer = DynamicLinear(*widths, predictor=name)
    except ValueError as error:
        assert f'{widths[0]} -> {widths[1]}' in str(error)
    else:  # a predictor that accepts these widths must work with them
        assert layer(torch.randn(1, 4, 4, widths[0])).shape == (1, 4, 4, widths[1])


@pytest.mark.parametrize('widths', [(6, 24), (8, 30)])
def test_the_bilateral_predictor_rejects_widths_that_are_not_multiples_of_four(widths):
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
@pytest.mark.parametrize('backend', sorted(ops.BACKENDS))
@pytest.mark.parametrize('grid', [(2, 2), (14, 14), (64, 64)])
def test_twice_the_tokens_need_at_most_twice_the_multiply_adds(kind, name, grid, backend):
    predictor = build(kind, name).predictor
    h, w = grid
    totals = []
    for width in (w, 2 * w):
        x = tokens(1, h, width, torch.float32)
        with torch.no_grad(), ops.use_backend(backend), MultiplyAddCounter() as counter:
            predictor(x)
        totals.append(counter.total)
    assert 0 < totals[1] <= 2 * totals[0]


@all_predictors
def test_layers_are_initialised_as_in_the_released_code(kind, name):
    layer = DynamicLinear(64, 256, name) if kind == 'linear' else DynamicDWConv2d(256, 3, name)
    for parameter in (layer.weight, layer.bias):
        assert parameter.std().item() == pytest.approx(0.02, rel=0.2)
        assert abs(parameter.mean().item()) < 0.005
