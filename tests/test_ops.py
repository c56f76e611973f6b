"""The eager backend against the naive one, and the checks of the public functions."""

import pytest
import torch
from torch.testing import assert_close

from mmwf import ops
from mmwf.analysis.flops import MultiplyAddCounter

GRIDS = [(1, 1), (1, 5), (7, 3), (14, 9)]


def run_with_gradients(backend, function, inputs, **kwargs):
    """Returns the output, and the gradient of a fixed random loss for every input."""
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    with ops.use_backend(backend):
        out = function(*leaves, **kwargs)
    loss_weight = torch.randn(
        out.shape, dtype=out.dtype, generator=torch.Generator().manual_seed(1)
    )
    return out.detach(), *torch.autograd.grad((out * loss_weight).sum(), leaves)


def assert_backends_agree(function, inputs, **kwargs):
    results = run_with_gradients('eager', function, inputs, **kwargs)
    references = run_with_gradients('naive', function, inputs, **kwargs)
    for actual, expected in zip(results, references, strict=True):
        assert expected.abs().max() > 0
        assert_close(actual, expected, rtol=1e-10, atol=1e-12)


def randn(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def bilateral_inputs(b=3, m=5, r=2, s=7, c=8, d=28):
    return randn(b, m, r), randn(b, m, s), randn(r, c), randn(s, d)


def dwconv_inputs(b=3, h=7, w=3, c=6, k=3):
    return randn(b, h, w, c), randn(c, 1, k, k), randn(b, c, k, k), randn(c)


def linear_inputs(shape=(3, 7, 3), c=6, d=11):
    return randn(*shape, c), randn(c, d), randn(shape[0], c, d), randn(d)


def count_multiply_adds(backend, **sizes):
    inputs = bilateral_inputs(b=1, **sizes)
    with ops.use_backend(backend), MultiplyAddCounter() as counter:
        ops.bilateral_weight(*inputs, scale=1.0)
    return counter.total


@pytest.mark.parametrize(
    ('m', 'reordered'), [(1, False), (3, False), (4, True), (5, True), (126, True)]
)
def test_bilateral_weight_is_the_same_in_both_orders(m, reordered):
    sizes = dict(m=m, r=2, s=7, c=8, d=28)
    cheaper = count_multiply_adds('eager', **sizes) < count_multiply_adds('naive', **sizes)
    assert cheaper == reordered
    assert_backends_agree(ops.bilateral_weight, bilateral_inputs(**sizes), scale=0.37)


def test_eager_evaluates_in_the_cheaper_order():
    sizes = dict(r=48, s=192, c=192, d=768)  # of the tiny arch
    # 49 and 1024 pooled tokens, of images of 224 x 224 and 1024 x 1024 pixels.
    costs = {
        (backend, m): count_multiply_adds(backend, m=m, **sizes)
        for backend in ops.BACKENDS
        for m in (49, 1024)
    }
    assert costs['eager', 49] == costs['naive', 49]
    assert costs['eager', 1024] < costs['naive', 1024] / 7


@pytest.mark.parametrize('m', [1, 126])
def test_bilateral_weight_follows_the_equation_of_the_paper(m):
    a, p, u, v = bilateral_inputs(m=m)
    left = torch.einsum('bmr,rc->bmc', a * torch.sigmoid(a), u)
    right = torch.einsum('bms,sd->bmd', p * torch.sigmoid(p), v)
    expected = 0.37 * torch.einsum('bmc,bmd->bcd', left, right)
    assert_close(ops.bilateral_weight(a, p, u, v, scale=0.37), expected, rtol=1e-10, atol=1e-12)


def test_bilateral_weight_scales_before_it_sums():
    # The sum of silu(64)^2 over 1024 tokens is 4 million, and the largest fp16 number is 65504.
    a = p = torch.full((1, 1024, 4), 64.0, dtype=torch.float16)
    u = v = torch.eye(4, dtype=torch.float16)
    out = ops.bilateral_weight(a, p, u, v, scale=1 / 1024)
    assert_close(out, torch.full_like(out, 4096.0), rtol=1e-2, atol=0)


@pytest.mark.parametrize('grid', GRIDS)
def test_dynamic_linear_backends_agree(grid):
    assert_backends_agree(ops.dynamic_linear, linear_inputs((3, *grid)))


@pytest.mark.parametrize('shape', [(3, 5), (1, 5), (2, 2, 3, 4)])
def test_dynamic_linear_accepts_any_number_of_token_dimensions(shape):
    inputs = linear_inputs(shape)
    assert ops.dynamic_linear(*inputs).shape == (*shape, 11)
    assert_backends_agree(ops.dynamic_linear, inputs)


@pytest.mark.parametrize('grid', GRIDS)
@pytest.mark.parametrize('k', [1, 3, 5])
def test_dynamic_dwconv2d_backends_agree(grid, k):
    assert_backends_agree(ops.dynamic_dwconv2d, dwconv_inputs(3, *grid, k=k))


def test_dynamic_dwconv2d_is_a_sum_over_shifted_images():
    x, weight, delta, bias = dwconv_inputs(h=4, w=5)
    kernel = weight[:, 0] + delta  # (B, C, K, K)
    padded = torch.zeros(3, 6, 7, 6, dtype=x.dtype)
    padded[:, 1:-1, 1:-1] = x
    expected = bias.expand(3, 4, 5, 6).clone()
    for i in range(3):
        for j in range(3):
            expected += padded[:, i : i + 4, j : j + 5] * kernel[:, None, None, :, i, j]
    for backend in ops.BACKENDS:
        with ops.use_backend(backend):
            assert_close(ops.dynamic_dwconv2d(x, weight, delta, bias), expected)


@pytest.mark.parametrize(
    ('function', 'make_inputs', 'index', 'wrong_shape'),
    [
        (ops.bilateral_weight, bilateral_inputs, 0, (3, 4, 2)),  # tokens
        (ops.bilateral_weight, bilateral_inputs, 1, (2, 5, 7)),  # images
        (ops.bilateral_weight, bilateral_inputs, 1, (5, 7)),
        (ops.bilateral_weight, bilateral_inputs, 2, (3, 8)),
        (ops.bilateral_weight, bilateral_inputs, 3, (2, 28)),
        (ops.dynamic_linear, linear_inputs, 0, (3, 6)),
        (ops.dynamic_linear, linear_inputs, 0, (3, 7, 5)),
        (ops.dynamic_linear, linear_inputs, 1, (11, 6)),
        (ops.dynamic_linear, linear_inputs, 2, (1, 6, 11)),  # must not broadcast
        (ops.dynamic_linear, linear_inputs, 3, (1,)),
        (ops.dynamic_dwconv2d, dwconv_inputs, 0, (3, 6, 7, 3)),
        (ops.dynamic_dwconv2d, dwconv_inputs, 0, (7, 3, 6)),
        (ops.dynamic_dwconv2d, dwconv_inputs, 1, (6, 1, 2, 2)),
        (ops.dynamic_dwconv2d, dwconv_inputs, 1, (6, 6, 3, 3)),
        (ops.dynamic_dwconv2d, dwconv_inputs, 2, (1, 6, 3, 3)),
        (ops.dynamic_dwconv2d, dwconv_inputs, 2, (3, 6, 5, 5)),
        (ops.dynamic_dwconv2d, dwconv_inputs, 3, (1,)),
    ],
)
def test_mismatched_shapes_are_named(function, make_inputs, index, wrong_shape):
    inputs = list(make_inputs())
    inputs[index] = randn(*wrong_shape)
    kwargs = dict(scale=1.0) if function is ops.bilateral_weight else {}
    with pytest.raises(ValueError, match='Expected') as error:
        function(*inputs, **kwargs)
    for x in inputs:
        assert str(tuple(x.shape)) in str(error.value)


def test_use_backend_restores_the_backend():
    before = ops.get_backend()
    with ops.use_backend('naive'):
        assert ops.get_backend() == 'naive'
        with ops.use_backend('eager'):
            assert ops.get_backend() == 'eager'
        assert ops.get_backend() == 'naive'
    assert ops.get_backend() == before


def test_use_backend_restores_the_backend_after_an_exception():
    before = ops.get_backend()
    with pytest.raises(KeyError), ops.use_backend('naive'):
        raise KeyError
    assert ops.get_backend() == before


def test_the_current_backend_is_called(monkeypatch):
    monkeypatch.setattr(ops.BACKENDS['naive'], 'dynamic_linear', lambda *args: 'naive was called')
    assert isinstance(ops.dynamic_linear(*linear_inputs()), torch.Tensor)
    with ops.use_backend('naive'):
        assert ops.dynamic_linear(*linear_inputs()) == 'naive was called'


def test_an_unknown_backend_is_rejected_with_the_known_ones():
    with pytest.raises(ValueError, match="'eager', 'naive'.*'fast'"):
        ops.set_backend('fast')
    assert ops.get_backend() == 'eager'


@pytest.mark.parametrize('dim', [1, (-2, -1)])
@pytest.mark.parametrize('magnitude', [1e-3, 1.0, 1e3])
def test_a_normalized_weight_has_a_norm_below_one(dim, magnitude):
    delta = magnitude * randn(3, 5, 4, 2)
    out = ops.normalize_weight(delta, dim)
    norm = delta.square().sum(dim, keepdim=True).sqrt()
    assert (out.square().sum(dim) < 1).all()
    assert_close(out, delta / (norm + 1))


def test_normalize_weight_has_a_finite_gradient_at_zero():
    delta = torch.zeros(2, 4, 3, requires_grad=True)
    ops.normalize_weight(delta, 1).sum().backward()
    assert_close(delta.grad, torch.ones_like(delta))  # the derivative at zero is 1


def test_the_gradient_of_normalize_weight_matches_finite_differences():
    delta = randn(2, 4, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: ops.normalize_weight(x, 1), delta)
