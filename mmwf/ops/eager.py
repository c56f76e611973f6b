"""The default backend: batched PyTorch. Shapes as in ``naive.py``.

``bilateral_weight`` returns the update as :class:`.LowRank`, since the update itself is larger than
the tokens of a small image.
"""

import torch
import torch.nn.functional as F
from torch.autograd import Function
from torch.fx.experimental.symbolic_shapes import statically_known_true

from .dwconv import conv, opaque_conv
from .low_rank import LowRank

aten = torch.ops.aten
_is_old = tuple(map(int, torch.__version__.split('.')[:2])) < (2, 11)  # 2.6: cannot be traced


def _is_known(condition: bool) -> bool:
    """Whether a condition on sizes holds, without making it one of a compiled program."""
    if torch.compiler.is_compiling():
        return not _is_old and statically_known_true(condition)
    return condition


def bilateral_weight(a, p, u, v, scale):
    # Scaled before the products: in fp16 the unscaled sum over the tokens overflows.
    correlation = (F.silu(a) * scale).transpose(1, 2) @ F.silu(p)  # (B, R, S)
    return LowRank(u, correlation @ v)


def dynamic_linear(x, weight, delta, bias):
    tokens = x.flatten(1, -2)  # (B, N, C)
    if isinstance(delta, LowRank):
        y = _low_rank_linear(tokens, weight, delta, bias)
    else:
        y = torch.baddbmm(bias, tokens, weight + delta)
    return y.view(*x.shape[:-1], -1)  # (B, ..., D)


def _low_rank_linear(x, weight, delta, bias):
    (n, c), d = x.shape[1:], weight.shape[1]
    # Per image and rank, the product of the factors takes C D multiply-adds and forms C D numbers,
    # that of the tokens with one factor after the other N (C + D). Measured on a CPU, the second is
    # faster up to a ratio of 1.6. A program compiled for many sizes does not choose.
    if not _is_known(5 * n * (c + d) <= 8 * c * d):
        return torch.baddbmm(bias, x, delta.add_to(weight))
    y, projected = F.linear(x, weight.T, bias), x @ delta.left.T
    right = delta.right.to(y.dtype)  # under autocast in fp32, and autocast skips baddbmm_
    if torch.is_grad_enabled() or torch.jit.is_tracing():
        return torch.baddbmm(y, projected, right)
    return y.baddbmm_(projected, right)


def dwconv2d(x, weight, bias):
    return _convolve(x, weight[None], bias)


def dynamic_dwconv2d(x, weight, delta, bias):
    return _convolve(x, weight + delta.unsqueeze(2), bias)


def _convolve(x, kernel, bias):
    # PyTorch chooses among its convolutions by the sizes, and every choice would become a condition
    # of the compiled program. Autocast does not reach into the operation of compiled code.
    if torch.compiler.is_compiling():
        return opaque_conv(*_autocast(x, kernel, bias))
    return conv(x, kernel, bias)


def _autocast(first, *others):
    """Casts tensors as autocast casts the arguments of a convolution or matrix product."""
    device_type = first.device.type
    if not torch.is_autocast_enabled(device_type) or first.dtype == torch.float64:
        return first, *others
    dtype = torch.get_autocast_dtype(device_type)
    return [tensor.to(dtype) for tensor in (first, *others)]


class _GeluLinear(Function):
    """``gelu(x) weight^T + bias``, which computes the GELU again instead of keeping it."""

    @staticmethod
    def forward(ctx, x, weight, bias, approximate):
        ctx.save_for_backward(x, weight)
        ctx.approximate = approximate
        return F.linear(F.gelu(x, approximate=approximate), weight, bias)

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias, _ = ctx.needs_input_grad
        grad_x = grad_weight = grad_bias = None
        if needs_weight:
            activation = F.gelu(x, approximate=ctx.approximate)
            grad_weight = grad.flatten(0, -2).T @ activation.flatten(0, -2)
            del activation
        if needs_bias:
            grad_bias = grad.flatten(0, -2).sum(dim=0)
        if needs_x:
            grad_x = aten.gelu_backward(grad @ weight, x, approximate=ctx.approximate)
        return grad_x, grad_weight, grad_bias, None


def mlp(x, weight1, delta, bias1, weight2, bias2, approximate):
    if delta is None:
        hidden = F.linear(x, weight1.T, bias1)
    else:
        hidden = dynamic_linear(x, weight1, delta, bias1)
    if torch.compiler.is_compiling() or torch.jit.is_tracing():  # the compiler chooses what to keep
        return F.linear(F.gelu(hidden, approximate=approximate), weight2, bias2)
    if not torch.is_grad_enabled():
        return F.linear(aten.gelu_(hidden, approximate=approximate), weight2, bias2)
    return _GeluLinear.apply(*_autocast(hidden, weight2, bias2), approximate)
