"""The MLP with its hidden layer on chip.

Shapes: B images of N tokens, input width C, hidden width D, output width E. The first weight is
(1, C, D) for all images or (B, C, D), the second (E, D).

A program of the forward kernel computes ``BLOCK_N`` tokens: for one tile of the hidden layer after
the other, it adds the tile's share to the output, so that the hidden layer never reaches memory.
The backward pass computes it again: large products are PyTorch's, and a second kernel computes the
GELU and its gradient in one pass.
"""

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from .launch import input_precision, on_device, readable, storage_dtype

#: The output of a token must fit on chip.
MAX_WIDTH = 384


@triton.jit
def _logit(x):
    """Returns 2 z, where the approximate GELU is ``x (1 + tanh(z)) / 2 = x sigmoid(2 z)``."""
    return 1.5957691216057308 * (x + 0.044715 * x * x * x)


@triton.jit
def _gate(x, TANH: tl.constexpr):
    """Returns ``gelu(x) / x``."""
    return tl.sigmoid(_logit(x)) if TANH else 0.5 * (1 + tl.erf(x * 0.7071067811865476))


@triton.jit
def _gate_slope(x, TANH: tl.constexpr):
    """Returns the derivative of :func:`_gate`."""
    if TANH:  # sigmoid(-z), since 1 - sigmoid(z) would cancel
        slope = tl.sigmoid(_logit(x)) * tl.sigmoid(-_logit(x))
        slope *= 1.5957691216057308 * (1 + 0.134145 * x * x)
    else:
        slope = 0.3989422804014327 * tl.exp(-0.5 * x * x)
    return slope


@triton.jit
def _forward_kernel(
    x_ptr, weight1_ptr, bias1_ptr, weight2_ptr, bias2_ptr, y_ptr,
    N, C, D, E, weight1_stride,
    TANH: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_E: tl.constexpr,
):  # fmt: skip
    tiles = tl.cdiv(N, BLOCK_N)
    image = (tl.program_id(0) // tiles).to(tl.int64)
    n = (tl.program_id(0) % tiles) * BLOCK_N + tl.arange(0, BLOCK_N)
    e = tl.arange(0, BLOCK_E)
    token, exists = image * N + n, n < N

    acc = tl.zeros((BLOCK_N, BLOCK_E), tl.float32)
    for start_d in range(0, D, BLOCK_D):
        d = start_d + tl.arange(0, BLOCK_D)
        hidden = tl.zeros((BLOCK_N, BLOCK_D), tl.float32)
        for start_c in range(0, C, BLOCK_C):
            c = start_c + tl.arange(0, BLOCK_C)
            x = tl.load(
                x_ptr + token[:, None] * C + c[None, :],
                mask=exists[:, None] & (c < C)[None, :],
                other=0.0,
            )
            weight1 = tl.load(
                weight1_ptr + image * weight1_stride + c[:, None] * D + d[None, :],
                mask=(c < C)[:, None] & (d < D)[None, :],
                other=0.0,
            )
            hidden = tl.dot(x, weight1, hidden, input_precision=PRECISION)
        bias1 = tl.load(bias1_ptr + d, mask=d < D, other=0.0).to(tl.float32)
        hidden += bias1[None, :]
        activation = hidden * _gate(hidden, TANH)  # 0 where d >= D
        weight2 = tl.load(
            weight2_ptr + e[None, :] * D + d[:, None],
            mask=(d < D)[:, None] & (e < E)[None, :],
            other=0.0,
        )
        acc = tl.dot(activation.to(weight2.dtype), weight2, acc, input_precision=PRECISION)
    acc += tl.load(bias2_ptr + e, mask=e < E, other=0.0).to(tl.float32)[None, :]
    tl.store(
        y_ptr + token[:, None] * E + e[None, :],
        acc.to(y_ptr.dtype.element_ty),
        mask=exists[:, None] & (e < E)[None, :],
    )


@triton.jit
def _gelu_kernel(
    hidden_ptr, grad_ptr, activation_ptr, grad_hidden_ptr, size,
    TANH: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = i < size
    hidden = tl.load(hidden_ptr + i, mask=mask, other=0.0).to(tl.float32)
    grad = tl.load(grad_ptr + i, mask=mask, other=0.0).to(tl.float32)
    gate = _gate(hidden, TANH)
    activation, grad_hidden = hidden * gate, grad * (gate + hidden * _gate_slope(hidden, TANH))
    tl.store(activation_ptr + i, activation.to(activation_ptr.dtype.element_ty), mask=mask)
    tl.store(grad_hidden_ptr + i, grad_hidden.to(grad_hidden_ptr.dtype.element_ty), mask=mask)


@torch.library.custom_op('mmwf::triton_mlp', mutates_args=())
def mlp(
    x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor, approximate: str
) -> Tensor:
    """Computes ``gelu(x weight1 + bias1) weight2^T + bias2`` of tokens (B, N, C)."""
    (b, n, c), (e, d), dtype = x.shape, weight2.shape, x.dtype
    x, weight1, bias1, weight2, bias2 = map(readable, (x, weight1, bias1, weight2, bias2))
    y = torch.empty(b, n, e, dtype=storage_dtype(dtype), device=x.device)
    block_n = 32 if x.dtype == torch.float32 else 64  # else registers spill
    with on_device(x):
        _forward_kernel[(b * triton.cdiv(n, block_n),)](
            x, weight1, bias1, weight2, bias2, y,
            n, c, d, e, weight1.stride(0) if len(weight1) > 1 else 0,
            TANH=approximate == 'tanh', PRECISION=input_precision(),
            BLOCK_N=block_n, BLOCK_C=32, BLOCK_D=32,
            BLOCK_E=max(triton.next_power_of_2(e), 16), num_warps=8, num_stages=2,
        )  # fmt: skip
    return y.to(dtype)


@torch.library.custom_op('mmwf::triton_gelu_backward', mutates_args=())
def gelu_backward(hidden: Tensor, grad: Tensor, approximate: str) -> tuple[Tensor, Tensor]:
    """Returns the GELU of the hidden layer and, from its gradient, that of the hidden layer."""
    dtype, block = hidden.dtype, 1024
    hidden, grad = readable(hidden), readable(grad)
    activation, grad_hidden = torch.empty_like(hidden), torch.empty_like(grad)
    with on_device(hidden):
        _gelu_kernel[(triton.cdiv(hidden.numel(), block),)](
            hidden, grad, activation, grad_hidden, hidden.numel(),
            TANH=approximate == 'tanh', BLOCK=block,
        )  # fmt: skip
    return activation.to(dtype), grad_hidden.to(dtype)


@mlp.register_fake
def _(x, weight1, bias1, weight2, bias2, approximate):
    return x.new_empty(*x.shape[:2], weight2.shape[0])


@gelu_backward.register_fake
def _(hidden, grad, approximate):
    return hidden.new_empty(hidden.shape), hidden.new_empty(hidden.shape)


def _setup_context(ctx, inputs, output):
    x, weight1, bias1, weight2, _, ctx.approximate = inputs
    ctx.save_for_backward(x, weight1, bias1, weight2)


def _backward(ctx, grad):
    x, weight1, bias1, weight2 = ctx.saved_tensors
    needs_x, needs_weight1, needs_bias1, needs_weight2, needs_bias2, _ = ctx.needs_input_grad
    grad_x = grad_weight1 = grad_bias1 = grad_weight2 = grad_bias2 = None
    if len(weight1) == 1:
        hidden = F.linear(x, weight1[0].T, bias1)  # (B, N, D)
    else:
        hidden = torch.baddbmm(bias1, x, weight1)
    activation, grad_hidden = gelu_backward(hidden, grad @ weight2, ctx.approximate)
    del hidden
    if needs_weight2:
        grad_weight2 = grad.flatten(0, 1).T @ activation.flatten(0, 1)
    del activation
    if needs_bias2:
        grad_bias2 = grad.sum((0, 1))
    if needs_bias1:
        grad_bias1 = grad_hidden.sum((0, 1))
    if needs_weight1:
        if len(weight1) == 1:
            grad_weight1 = (x.flatten(0, 1).T @ grad_hidden.flatten(0, 1))[None]
        else:
            grad_weight1 = x.transpose(1, 2) @ grad_hidden
    if needs_x:
        shared = len(weight1) == 1
        grad_x = grad_hidden @ (weight1[0].T if shared else weight1.transpose(1, 2))
    return grad_x, grad_weight1, grad_bias1, grad_weight2, grad_bias2, None


mlp.register_autograd(_backward, setup_context=_setup_context)


@register_flop_formula(torch.ops.mmwf.triton_mlp)
def _flops(x_shape, weight1_shape, bias1_shape, weight2_shape, *args, out_shape=None, **kwargs):
    (b, n, c), (e, d) = x_shape, weight2_shape
    return 2 * b * n * d * (c + e)
