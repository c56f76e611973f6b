"""The other backends against the naive one, and the checks of the public functions."""

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from mmwf import ops
from mmwf.analysis.flops import MultiplyAddCounter
from mmwf.ops import dwconv

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
    references = run_with_gradients('naive', function, inputs, **kwargs)
    for backend in ('plain', 'eager', 'portable'):
        results = run_with_gradients(backend, function, inputs, **kwargs)
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


def mlp_inputs(shape=(3, 7, 3), c=6, d=11, e=5):
    return (*linear_inputs(shape, c, d), randn(e, d), randn(e))


def low_rank_inputs(shape=(3, 7, 3), c=6, d=11, r=2):
    """Inputs of dynamic_linear with the factors of the update instead of the update."""
    return randn(*shape, c), randn(c, d), randn(r, c), randn(shape[0], r, d), randn(d)


def low_rank_linear(x, weight, left, right, bias):
    return ops.dynamic_linear(x, weight, ops.LowRank(left, right), bias)


def dense_bilateral_weight(*inputs, **kwargs):
    return ops.dense(ops.bilateral_weight(*inputs, **kwargs))


def count_multiply_adds(function, *inputs, backend='eager', **kwargs):
    with ops.use_backend(backend), MultiplyAddCounter() as counter:
        function(*inputs, **kwargs)
    return counter.total


@pytest.mark.parametrize('m', [1, 5, 126])
def test_bilateral_weight_backends_agree(m):
    assert_backends_agree(dense_bilateral_weight, bilateral_inputs(m=m), scale=0.37)


def test_eager_never_forms_the_update_of_the_bilateral_predictor():
    (a, p, u, v), scale = bilateral_inputs(m=5, r=2, s=7, c=8, d=28), 0.37
    delta = ops.bilateral_weight(a, p, u, v, scale=scale)
    assert delta.left is u and delta.right.shape == (3, 2, 28)
    cost = count_multiply_adds(ops.bilateral_weight, a, p, u, v, scale=scale)
    assert cost == 3 * (5 * 2 * 7 + 2 * 7 * 28)  # silu(a)^T silu(p), and its product with v


@pytest.mark.parametrize('m', [1, 126])
def test_bilateral_weight_follows_the_equation_of_the_paper(m):
    a, p, u, v = bilateral_inputs(m=m)
    left = torch.einsum('bmr,rc->bmc', a * torch.sigmoid(a), u)
    right = torch.einsum('bms,sd->bmd', p * torch.sigmoid(p), v)
    expected = 0.37 * torch.einsum('bmc,bmd->bcd', left, right)
    out = dense_bilateral_weight(a, p, u, v, scale=0.37)
    assert_close(out, expected, rtol=1e-10, atol=1e-12)


def test_bilateral_weight_scales_before_it_sums():
    # The sum of silu(64)^2 over 1024 tokens is 4 million, and the largest fp16 number is 65504.
    a = p = torch.full((1, 1024, 4), 64.0, dtype=torch.float16)
    u = v = torch.eye(4, dtype=torch.float16)
    out = dense_bilateral_weight(a, p, u, v, scale=1 / 1024)
    assert_close(out, torch.full_like(out, 4096.0), rtol=1e-2, atol=0)


# N tokens: up to 1.6 C D / (C + D) = 76.8, the tokens are multiplied with one factor after the
# other, else the update is formed first.
@pytest.mark.parametrize(('n', 'forms_update'), [(1, False), (76, False), (77, True), (200, True)])
def test_the_product_with_a_low_rank_update_is_evaluated_in_the_faster_order(n, forms_update):
    b, c, d, r = 2, 64, 192, 16
    inputs = low_rank_inputs((b, n), c, d, r)
    extra = r * c * d if forms_update else n * r * (c + d)
    assert count_multiply_adds(low_rank_linear, *inputs) == b * (n * c * d + extra)
    assert_backends_agree(low_rank_linear, inputs)
    copies = [tensor.clone() for tensor in inputs]
    with torch.no_grad():
        assert_close(low_rank_linear(*inputs), low_rank_linear(*inputs))
    assert all(map(torch.equal, inputs, copies))


@pytest.mark.parametrize('magnitude', [1e-3, 1.0, 1e3])
def test_a_low_rank_update_is_normalized_as_the_dense_one(magnitude):
    def normalize(left, right):
        return ops.dense(ops.normalize_weight(ops.LowRank(left, right), 1))

    def normalize_dense(left, right):
        return ops.normalize_weight(left.T @ right, 1)

    inputs = [randn(2, 8), magnitude * randn(3, 2, 28)]
    results = run_with_gradients('eager', normalize, inputs)
    references = run_with_gradients('eager', normalize_dense, inputs)
    for actual, expected in zip(results, references, strict=True):
        assert expected.abs().max() > 0
        assert_close(actual, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32])
def test_a_low_rank_update_is_normalized_in_any_precision(dtype):
    # The norms are 2 * 300 * sqrt(8) = 1697, and their squares larger than the largest fp16 number.
    delta = ops.LowRank(torch.ones(2, 8, dtype=dtype), torch.full((1, 2, 3), 300.0, dtype=dtype))
    out = ops.normalize_weight(delta, 1)
    assert out.right.dtype == dtype
    expected = torch.full((1, 8, 3), 600 / (600 * 8**0.5 + 1))
    assert_close(out.dense().float(), expected, rtol=1e-2, atol=0)


def test_a_low_rank_update_of_zero_has_a_finite_gradient():
    left, right = torch.randn(2, 4), torch.zeros(1, 2, 3, requires_grad=True)
    ops.normalize_weight(ops.LowRank(left, right), 1).right.sum().backward()
    assert_close(right.grad, torch.ones_like(right))  # the derivative of the norm does not matter


def test_the_dimension_of_the_norm_of_factors_is_checked():
    with pytest.raises(ValueError, match='dim=1.*got 2'):
        ops.normalize_weight(ops.LowRank(randn(2, 4), randn(1, 2, 3)), 2)


@pytest.mark.parametrize('grid', GRIDS)
def test_dynamic_linear_backends_agree(grid):
    assert_backends_agree(ops.dynamic_linear, linear_inputs((3, *grid)))


@pytest.mark.parametrize('shape', [(3, 5), (1, 5), (2, 2, 3, 4)])
def test_dynamic_linear_accepts_any_number_of_token_dimensions(shape):
    inputs = linear_inputs(shape)
    assert ops.dynamic_linear(*inputs).shape == (*shape, 11)
    assert_backends_agree(ops.dynamic_linear, inputs)


def test_factors_of_the_wrong_shape_are_named():
    x, weight, left, right, bias = low_rank_inputs()
    for wrong in (ops.LowRank(left[:, 1:], right), ops.LowRank(left, right[1:])):
        with pytest.raises(ValueError, match='Expected') as error:
            ops.dynamic_linear(x, weight, wrong, bias)
        assert f'left {tuple(wrong.left.shape)}' in str(error.value)
        assert f'right {tuple(wrong.right.shape)}' in str(error.value)


def static_mlp(x, weight1, bias1, weight2, bias2, **kwargs):
    return ops.mlp(x, weight1, None, bias1, weight2, bias2, **kwargs)


@pytest.mark.parametrize('approximate', ['none', 'tanh'])
def test_mlp_backends_agree(approximate):
    inputs = mlp_inputs()
    assert_backends_agree(ops.mlp, inputs, approximate=approximate)
    assert_backends_agree(static_mlp, inputs[:2] + inputs[3:], approximate=approximate)


@pytest.mark.parametrize('approximate', ['none', 'tanh'])
def test_mlp_is_two_linear_layers_and_a_gelu(approximate):
    x, weight1, _, bias1, weight2, bias2 = mlp_inputs()
    hidden = torch.nn.GELU(approximate)(F.linear(x, weight1.T, bias1))
    expected = F.linear(hidden, weight2, bias2)
    with torch.no_grad():
        before = x.clone()
        inference = static_mlp(x, weight1, bias1, weight2, bias2, approximate=approximate)
        assert torch.equal(x, before)
    training = static_mlp(
        x, weight1, bias1, weight2.requires_grad_(), bias2, approximate=approximate
    )
    assert_close(inference, expected)
    assert_close(training, expected)


def test_second_derivatives_of_the_mlp_match_finite_differences():
    x, weight1, _, bias1, weight2, bias2 = (t.requires_grad_() for t in mlp_inputs((1, 2), 2, 3, 2))
    assert torch.autograd.gradgradcheck(static_mlp, (x, weight1, bias1, weight2, bias2))


@pytest.mark.parametrize('frozen', [(3,), (4,), (0, 1, 2), (0, 1, 2, 3)])
def test_the_mlp_computes_only_the_gradients_that_are_needed(frozen):
    x, weight1, _, bias1, weight2, bias2 = mlp_inputs()
    inputs = [x, weight1, bias1, weight2, bias2]
    for i, tensor in enumerate(inputs):
        tensor.requires_grad_(i not in frozen)
    static_mlp(*inputs).sum().backward()
    for i, tensor in enumerate(inputs):
        assert (tensor.grad is None) == (i in frozen)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_the_mlp_keeps_its_hidden_layer_once_for_the_backward_pass(dtype):
    x, weight1, _, bias1, weight2, bias2 = (t.float().requires_grad_() for t in mlp_inputs(d=44))
    saved = {}

    def save(tensor):
        if tensor.shape[-1] == 44 and tensor.dim() == 4:
            saved[tensor.data_ptr()] = tensor
        return tensor

    autocast = torch.autocast('cpu', torch.bfloat16, enabled=dtype == torch.bfloat16)
    with autocast, torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
        out = static_mlp(x, weight1, bias1, weight2, bias2)
    assert [tensor.dtype for tensor in saved.values()] == [dtype]
    assert out.dtype == dtype
    out.float().sum().backward()
    assert weight2.grad.dtype == torch.float32 and weight2.grad.abs().max() > 0


@pytest.mark.parametrize('grid', GRIDS)
@pytest.mark.parametrize('k', [1, 3, 5])
def test_dwconv2d_backends_agree(grid, k):
    x, weight, _, bias = dwconv_inputs(3, *grid, k=k)
    assert_backends_agree(ops.dwconv2d, (x, weight, bias))


@pytest.mark.parametrize('images', [1, 3])
@pytest.mark.parametrize('k', [1, 3])
def test_the_operation_of_compiled_code_is_the_convolution(images, k):
    x, kernel, bias = randn(3, 4, 5, 6), randn(images, 6, 1, k, k), randn(6)
    results = run_with_gradients('eager', dwconv.opaque_conv, (x, kernel, bias))
    references = run_with_gradients('eager', dwconv.conv, (x, kernel, bias))
    for actual, expected in zip(results, references, strict=True):
        assert_close(actual, expected)
    inputs = tuple(tensor.requires_grad_() for tensor in (x, kernel, bias))
    torch.library.opcheck(dwconv.opaque_conv, inputs)


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


def dwconv_norm_inputs(**shape):
    return (*dwconv_inputs(**shape), randn(6), randn(6))


def dwconv_norm(*inputs):
    return torch.cat(ops.dwconv_norm(*inputs, eps=0.1))


def static_dwconv_norm(x, weight, *inputs):
    return dwconv_norm(x, weight, None, *inputs)


@pytest.mark.parametrize('grid', GRIDS)
def test_dwconv_norm_backends_agree(grid):
    x, weight, delta, *rest = dwconv_norm_inputs(h=grid[0], w=grid[1])
    assert_backends_agree(dwconv_norm, (x, weight, delta, *rest))
    assert_backends_agree(static_dwconv_norm, (x, weight, *rest))


def test_dwconv_norm_is_a_residual_convolution_and_its_norm():
    x, weight, delta, bias, norm_weight, norm_bias = dwconv_norm_inputs()
    y, normed = ops.dwconv_norm(x, weight, delta, bias, norm_weight, norm_bias, eps=0.1)
    assert_close(y, x + ops.dynamic_dwconv2d(x, weight, delta, bias))
    centered = y - y.mean(-1, keepdim=True)
    unit = centered / (centered.square().mean(-1, keepdim=True) + 0.1).sqrt()
    assert_close(normed, unit * norm_weight + norm_bias)


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
        (ops.mlp, mlp_inputs, 2, (1, 6, 11)),
        (ops.mlp, mlp_inputs, 4, (5, 6)),
        (ops.mlp, mlp_inputs, 5, (1,)),
        (ops.dynamic_dwconv2d, dwconv_inputs, 0, (3, 6, 7, 3)),
        (ops.dynamic_dwconv2d, dwconv_inputs, 0, (7, 3, 6)),
        (ops.dynamic_dwconv2d, dwconv_inputs, 1, (6, 1, 2, 2)),
        (ops.dynamic_dwconv2d, dwconv_inputs, 1, (6, 6, 3, 3)),
        (ops.dynamic_dwconv2d, dwconv_inputs, 2, (1, 6, 3, 3)),
        (ops.dynamic_dwconv2d, dwconv_inputs, 2, (3, 6, 5, 5)),
        (ops.dynamic_dwconv2d, dwconv_inputs, 3, (1,)),
        (dwconv_norm, dwconv_norm_inputs, 0, (3, 6, 7, 3)),
        (dwconv_norm, dwconv_norm_inputs, 2, (1, 6, 3, 3)),
        (dwconv_norm, dwconv_norm_inputs, 4, (1,)),
        (dwconv_norm, dwconv_norm_inputs, 5, (3,)),
    ],
)
def test_mismatched_shapes_are_named(function, make_inputs, index, wrong_shape):
    inputs = list(make_inputs())
    inputs[index] = randn(*wrong_shape)
    kwargs = dict(scale=1.0) if function is ops.bilateral_weight else {}
    with pytest.raises(ValueError, match='Expected') as error:
        function(*inputs, **kwargs)
    assert str(wrong_shape) in str(error.value)


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
    with pytest.raises(ValueError, match="'eager', 'naive', 'plain', 'portable', 'triton'.*'fast'"):
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
