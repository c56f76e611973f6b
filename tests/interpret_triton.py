"""The Triton backend, run by Triton's interpreter on the CPU.

    TRITON_INTERPRET=1 python -m pytest tests/interpret_triton.py

``test_ops_triton.py`` runs this file in a process of its own, since Triton reads the variable when
it is imported. The interpreter has no bf16: PyTorch rounds the results (see ``launch.py``).
"""

import copy
import math
import statistics

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mmwf import ops
from mmwf.analysis.flops import MultiplyAddCounter, count_multiply_adds
from mmwf.models import WeightFormer
from mmwf.ops.triton import dwconv, fused_mlp, launch, predictor

assert launch.INTERPRETED


@pytest.fixture
def poisoned_memory(monkeypatch):
    """Fills new memory with NaN, so that no kernel can leave an element out."""

    def poisoned(create):
        return lambda *args, **kwargs: create(*args, **kwargs).fill_(math.nan)

    monkeypatch.setattr(torch, 'empty', poisoned(torch.empty))
    monkeypatch.setattr(torch, 'empty_like', poisoned(torch.empty_like))


def randn(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def guarded(x):
    """Copies a tensor to the middle of memory that is NaN elsewhere."""
    return torch.full((3, *x.shape), math.nan, dtype=x.dtype)[1].copy_(x)


def strided(x):
    """Copies a tensor to memory in which its first dimension is the innermost one."""
    dims = tuple(reversed(range(x.dim())))
    return x.permute(dims).contiguous().permute(dims)


def dwconv_inputs(b, h, w, c, k):
    return randn(b, h, w, c), randn(c, 1, k, k), randn(b, c, k, k), randn(c)


def norm_inputs(*shape):
    return *dwconv_inputs(*shape), randn(shape[3]), randn(shape[3])


def mlp_inputs(b, n, c, d, e):
    weights = randn(c, d) * c**-0.5, randn(b, c, d) * c**-0.5, randn(d), randn(e, d) * d**-0.5
    return randn(b, n, c), *weights, randn(e)


def bilateral_inputs(b, m, r, s, c, d):
    return randn(b, m, r), randn(b, m, s), randn(r, c), randn(s, d)


def dwconv_norm(*inputs):
    return ops.dwconv_norm(*inputs, eps=0.1)


def static_dwconv_norm(x, weight, _, *inputs):
    return ops.dwconv_norm(x, weight, None, *inputs, eps=0.1)


def static_dwconv(x, weight, _, bias):
    return ops.dwconv2d(x, weight, bias)


def tanh_mlp(x, weight1, _, *inputs):
    return ops.mlp(x, weight1, None, *inputs, approximate='tanh')


def low_rank_mlp(x, weight1, left, right, *inputs):
    return ops.mlp(x, weight1, ops.LowRank(left, right), *inputs)


def low_rank_inputs(b, n, c, d, e):
    x, weight1, _, *rest = mlp_inputs(b, n, c, d, e)
    return x, weight1, randn(4, c) * 0.1, randn(b, 4, d), *rest


def bilateral_weight(*inputs):
    return ops.dense(ops.bilateral_weight(*inputs, scale=1 / 16))


def factors(b, r, c, d):
    return randn(r, c), randn(b, r, d)


def normalized_weight(left, right):
    return ops.dense(ops.normalize_weight(ops.LowRank(left, right), 1))


def run(backend, function, inputs, layout):
    """Returns the outputs, and the gradient of a fixed random loss for every input."""
    leaves = [layout(x.detach()).requires_grad_() for x in inputs]
    with ops.use_backend(backend):
        outputs = function(*leaves)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    generator = torch.Generator().manual_seed(1)
    weights = [strided(torch.randn(out.shape, generator=generator).to(out)) for out in outputs]
    grads = torch.autograd.grad(outputs, leaves, weights, allow_unused=True)
    return [*outputs, *grads]


def error(actual, expected):
    return ((actual.double() - expected).norm() / expected.norm()).item()


def mean_error(tensors, references):
    return statistics.mean(map(error, tensors, references))


CASES = [
    (dwconv_norm, norm_inputs, (3, 5, 7, 24, 3), guarded),
    (dwconv_norm, norm_inputs, (1, 1, 1, 48, 3), guarded),
    (dwconv_norm, norm_inputs, (1, 9, 2, 130, 5), strided),
    (static_dwconv_norm, norm_inputs, (3, 7, 3, 48, 3), strided),
    (static_dwconv, dwconv_inputs, (3, 5, 7, 24, 3), guarded),
    (static_dwconv, dwconv_inputs, (1, 4, 1, 6, 1), strided),
    (static_dwconv, dwconv_inputs, (1, 33, 37, 1, 3), guarded),  # more tokens than SUMMED
    (ops.dynamic_dwconv2d, dwconv_inputs, (3, 5, 7, 48, 3), strided),
    (ops.mlp, mlp_inputs, (3, 35, 24, 40, 24), guarded),
    (ops.mlp, mlp_inputs, (1, 1, 48, 96, 48), strided),
    (ops.mlp, mlp_inputs, (2, 70, 33, 65, 17), guarded),
    (tanh_mlp, mlp_inputs, (3, 35, 24, 40, 24), strided),
    (low_rank_mlp, low_rank_inputs, (3, 5, 24, 40, 24), guarded),
    (bilateral_weight, bilateral_inputs, (3, 35, 6, 24, 24, 96), guarded),
    (bilateral_weight, bilateral_inputs, (1, 1, 34, 7, 12, 28), strided),
    (normalized_weight, factors, (3, 6, 24, 40), guarded),
    (normalized_weight, factors, (1, 18, 7, 5), strided),
]


@pytest.mark.usefixtures('poisoned_memory')
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(('function', 'make_inputs', 'shape', 'layout'), CASES)
def test_errors_are_at_most_twice_those_of_eager(function, make_inputs, shape, layout, dtype):
    inputs = [x.to(dtype) for x in make_inputs(*shape)]
    results = run('triton', function, inputs, layout)
    eager = run('eager', function, inputs, layout)
    references = run('naive', function, [x.double() for x in inputs], torch.clone)
    for actual, other, expected in zip(results, eager, references, strict=True):
        assert (actual is None) == (expected is None)
        if expected is None:
            continue
        assert (actual.dtype, actual.shape) == (other.dtype, other.shape)
        assert expected.abs().max() > 0
        assert error(actual, expected) <= 2 * error(other, expected) + torch.finfo(dtype).eps / 4


@pytest.mark.usefixtures('poisoned_memory')
def test_sums_over_many_tokens_are_split(monkeypatch):
    monkeypatch.setattr(dwconv, 'TILE', 64)
    monkeypatch.setattr(dwconv, 'PROGRAMS', 2)
    monkeypatch.setattr(dwconv, 'SUMMED', 6)
    inputs = norm_inputs(2, 5, 3, 20, 3)
    results = run('triton', dwconv_norm, [x.float() for x in inputs], guarded)
    references = run('naive', dwconv_norm, inputs, torch.clone)
    for actual, expected in zip(results, references, strict=True):
        assert error(actual, expected) < 1e-6


def test_second_derivatives_of_the_mlp_and_of_the_norm_are_an_error():
    for function, inputs in (
        (dwconv_norm, norm_inputs(1, 2, 2, 4, 3)),
        (ops.mlp, mlp_inputs(1, 2, 4, 8, 4)),
    ):
        leaves = [x.float().requires_grad_() for x in inputs]
        with ops.use_backend('triton'):
            loss = function(*leaves)[0].square().sum()
        (grad,) = torch.autograd.grad(loss, leaves[0], create_graph=True)
        with pytest.raises(RuntimeError, match='no autograd formula'):
            grad.sum().backward()


class Operations(TorchDispatchMode):
    """Records the names of this project's operations."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == 'mmwf':
            self.names.add(func._opname)
        return func(*args, **(kwargs or {}))


def small_model():
    model = WeightFormer(arch=dict(embed_dims=16, depth=2, mlp_ratio=2), patch_size=4)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def run_model(backend, model, image, autocast=False):
    with ops.use_backend(backend), torch.autocast('cpu', torch.bfloat16, enabled=autocast):
        (out,) = model(image)
    return [out, *torch.autograd.grad(out.double().square().sum(), model.parameters())]


@pytest.mark.usefixtures('poisoned_memory')
@pytest.mark.parametrize('autocast', [False, True])
def test_the_mean_error_of_a_model_is_at_most_twice_that_of_eager(autocast):
    model, image = small_model(), torch.randn(2, 3, 20, 12)
    with Operations() as operations:
        results = run_model('triton', model, image, autocast)
    forward = {'dwconv_norm', 'mlp', 'correlation', 'normalize'}
    backward = {'norm_backward', 'taps_backward', 'gelu_backward', 'dwconv'}
    assert operations.names == {f'triton_{name}' for name in forward | backward}
    eager = run_model('eager', model, image, autocast)
    references = run_model('naive', copy.deepcopy(model).double(), image.double())
    assert [x.dtype for x in results] == [x.dtype for x in eager]
    # Rounding errors of single tensors vary by chance after several layers; their mean does not.
    assert mean_error(results, references) <= 2 * mean_error(eager, references)


def test_the_counter_counts_the_kernels_as_the_products_that_they_compute():
    for function, inputs in (
        (tanh_mlp, mlp_inputs(2, 5, 8, 20, 8)),
        (dwconv_norm, norm_inputs(2, 4, 5, 6, 3)),
        (static_dwconv, dwconv_inputs(2, 4, 5, 6, 3)),
        (bilateral_weight, bilateral_inputs(2, 5, 4, 6, 8, 24)),
        (normalized_weight, (randn(4, 8), randn(2, 4, 24))),
    ):
        totals = []
        for backend in ('triton', 'eager'):
            with ops.use_backend(backend), MultiplyAddCounter() as counter:
                function(*(x.float() for x in inputs))
            totals.append(counter.total)
        assert totals[0] == totals[1] > 0


def test_a_whole_model_can_be_counted():
    model = torch.nn.Module()
    model.backbone = small_model()
    counts = [count_multiply_adds(model, (20, 12), backend=name) for name in ('triton', 'naive')]
    assert 0.5 < counts[0]['total'] / counts[1]['total'] < 1.5


def opcheck_cases():
    x, weight, delta, bias, scale, shift = (t.float() for t in norm_inputs(2, 3, 4, 6, 3))
    taps = (weight[None, :, 0] + delta).flatten(2).transpose(1, 2)
    a, p = torch.randn(2, 5, 4), torch.randn(2, 5, 6)
    tokens, weight1, update, bias1, weight2, bias2 = (t.float() for t in mlp_inputs(2, 3, 6, 8, 4))
    return {
        dwconv.dwconv: (x, taps, bias, True, torch.bfloat16),
        dwconv.dwconv_norm: (x, taps, bias, scale, shift, 0.1, torch.float32, torch.bfloat16),
        dwconv.norm_backward: (x, x, x, x[..., 0], x[..., 1], scale),
        dwconv.taps_backward: (x, x, 3),
        fused_mlp.mlp: (tokens, weight1 + update, bias1, weight2, bias2, 'none'),
        fused_mlp.gelu_backward: (a, a, 'tanh'),
        predictor.correlation: (a, p, 0.5),
        predictor.normalize: (torch.randn(2, 4, 6), torch.eye(4)),
    }


def test_the_operations_are_registered_correctly():
    for operation, inputs in opcheck_cases().items():
        for x in inputs:
            if isinstance(x, torch.Tensor):
                x.requires_grad_(operation._backward_fn is not None)
        torch.library.opcheck(operation, inputs)


def test_the_operations_compile_without_graph_breaks():
    inputs = [x.float() for x in norm_inputs(2, 3, 4, 6, 3)]
    weights = [x.float() for x in mlp_inputs(2, 12, 6, 8, 6)[1:]]

    def function(*inputs):
        y, normed = dwconv_norm(*inputs)
        return y + ops.mlp(normed, *weights)

    compiled = torch.compile(function, backend='aot_eager', fullgraph=True)
    results = run('triton', compiled, inputs, torch.clone)
    for actual, expected in zip(results, run('triton', function, inputs, torch.clone), strict=True):
        assert error(actual, expected.double()) < 1e-6


def test_float64_and_wide_mlps_are_computed_by_eager():
    narrow, wide = mlp_inputs(1, 2, 8, 12, 8), mlp_inputs(1, 1, 8, 4, fused_mlp.MAX_WIDTH + 1)
    with ops.use_backend('triton'), Operations() as operations:
        ops.mlp(*narrow)
        ops.mlp(*(x.float() for x in wide))
        dwconv_norm(*norm_inputs(1, 2, 2, 6, 3))
        assert not operations.names
        ops.mlp(*(x.float() for x in narrow))
    assert operations.names == {'triton_mlp'}
