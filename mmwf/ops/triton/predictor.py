"""The chain of the bilateral predictor: correlation of two activated branches, and column norms.

Shapes: B images of M pooled tokens, hidden widths R and S of the branches, output width D.
"""

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from .launch import input_precision, on_device, readable, storage_dtype

aten = torch.ops.aten

#: The Gram matrix (R, R) must fit on chip.
MAX_RANK = 128
#: Smallest square of a norm: the root has no derivative at 0.
TINY = torch.finfo(torch.float32).tiny


@triton.jit
def _correlation_kernel(
    a_ptr, p_ptr, out_ptr, scale, M, R, S,
    PRECISION: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """A program sums a square tile of an image's correlation over all tokens."""
    image = tl.program_id(0).to(tl.int64)
    r = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    s = tl.program_id(2) * BLOCK + tl.arange(0, BLOCK)
    acc = tl.zeros((BLOCK, BLOCK), tl.float32)
    for start in range(0, M, BLOCK_M):
        m = start + tl.arange(0, BLOCK_M)
        token, exists = image * M + m, m < M
        a_mask, p_mask = (r < R)[:, None] & exists[None, :], exists[:, None] & (s < S)[None, :]
        a = tl.load(a_ptr + token[None, :] * R + r[:, None], mask=a_mask, other=0.0)
        p = tl.load(p_ptr + token[:, None] * S + s[None, :], mask=p_mask, other=0.0)
        a, p = a.to(tl.float32), p.to(tl.float32)
        a, p = a * tl.sigmoid(a) * scale, p * tl.sigmoid(p)
        acc = tl.dot(a, p, acc, input_precision=PRECISION)
    out = out_ptr + (image * R + r[:, None]) * S + s[None, :]
    mask = (r < R)[:, None] & (s < S)[None, :]
    tl.store(out, acc.to(out_ptr.dtype.element_ty), mask=mask)


@triton.jit
def _normalize_kernel(
    right_ptr, gram_ptr, out_ptr, R, D, tiny,
    PRECISION: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """A program divides ``BLOCK_D`` columns z of an image by ``sqrt(z^T gram z) + 1``."""
    image = tl.program_id(0).to(tl.int64)
    r = tl.arange(0, BLOCK_R)
    d = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    in_rank, in_width = r < R, (d < D)[None, :]
    offset = (image * R + r[:, None]) * D + d[None, :]
    mask = in_rank[:, None] & in_width
    z = tl.load(right_ptr + offset, mask=mask, other=0.0).to(tl.float32)
    projected = tl.zeros((BLOCK_R, BLOCK_D), tl.float32)  # gram z
    for start in range(0, R, BLOCK_K):
        k = start + tl.arange(0, BLOCK_K)
        gram_mask, rows_mask = in_rank[:, None] & (k < R)[None, :], (k < R)[:, None] & in_width
        gram = tl.load(gram_ptr + r[:, None] * R + k[None, :], mask=gram_mask, other=0.0)
        rows = (image * R + k[:, None]) * D + d[None, :]
        rows = tl.load(right_ptr + rows, mask=rows_mask, other=0.0).to(tl.float32)
        projected = tl.dot(gram, rows, projected, input_precision=PRECISION)
    squares = tl.sum(z * projected, axis=0)
    norm = tl.sqrt(tl.maximum(squares, tiny))
    out = z / (norm + 1)[None, :]
    tl.store(out_ptr + offset, out.to(out_ptr.dtype.element_ty), mask=mask)


@torch.library.custom_op('mmwf::triton_correlation', mutates_args=())
def correlation(a: Tensor, p: Tensor, scale: float) -> Tensor:
    """Computes ``(silu(a) scale)^T silu(p)`` of each image: (B, M, R), (B, M, S) to (B, R, S)."""
    (b, m, r), s, dtype = a.shape, p.shape[2], a.dtype
    a, p = readable(a), readable(p)
    out = torch.empty(b, r, s, dtype=storage_dtype(dtype), device=a.device)
    block = 32
    with on_device(a):
        _correlation_kernel[(b, triton.cdiv(r, block), triton.cdiv(s, block))](
            a, p, out, scale, m, r, s,
            PRECISION=input_precision(), BLOCK_M=32, BLOCK=block,
        )  # fmt: skip
    return out.to(dtype)


@torch.library.custom_op('mmwf::triton_normalize', mutates_args=())
def normalize(right: Tensor, gram: Tensor) -> Tensor:
    """Divides each column z of ``right`` (B, R, D) by ``sqrt(z^T gram z) + 1``; gram is fp32."""
    (b, r, d), dtype = right.shape, right.dtype
    right, gram, block = readable(right), gram.contiguous(), 16
    out = torch.empty_like(right)
    with on_device(right):
        _normalize_kernel[(b, triton.cdiv(d, block))](
            right, gram, out, r, d, TINY,
            PRECISION=input_precision(),
            BLOCK_R=max(triton.next_power_of_2(r), 16), BLOCK_D=block, BLOCK_K=16,
        )  # fmt: skip
    return out.to(dtype)


@correlation.register_fake
def _(a, p, scale):
    return a.new_empty(a.shape[0], a.shape[2], p.shape[2])


@normalize.register_fake
def _(right, gram):
    return right.new_empty(right.shape)


def _setup_correlation(ctx, inputs, output):
    a, p, ctx.scale = inputs
    ctx.save_for_backward(a, p)


def _backward_correlation(ctx, grad):
    a, p = ctx.saved_tensors
    grad_a = (F.silu(p) * ctx.scale) @ grad.transpose(1, 2)
    grad_p = (F.silu(a) * ctx.scale) @ grad
    return aten.silu_backward(grad_a, a), aten.silu_backward(grad_p, p), None


def _setup_normalize(ctx, inputs, output):
    ctx.save_for_backward(*inputs)


def _backward_normalize(ctx, grad):
    right, gram = ctx.saved_tensors
    z, grad = right.float(), grad.float()
    projected = gram @ z
    squares = (z * projected).sum(dim=1, keepdim=True)  # (B, 1, D)
    norm = squares.clamp_min(TINY).sqrt()
    # The derivative of the loss by the square of the norm; a clamped square is constant.
    slope = -(grad * z).sum(dim=1, keepdim=True) / (norm + 1).square() / (2 * norm)
    slope = slope.masked_fill(squares < TINY, 0)
    grad_right = grad / (norm + 1) + 2 * slope * projected
    grad_gram = ((slope * z) @ z.transpose(1, 2)).sum(dim=0)
    return grad_right, grad_gram


correlation.register_autograd(_backward_correlation, setup_context=_setup_correlation)
normalize.register_autograd(_backward_normalize, setup_context=_setup_normalize)


@register_flop_formula(torch.ops.mmwf.triton_correlation)
def _correlation_flops(a_shape, p_shape, *args, out_shape=None, **kwargs) -> int:
    return 2 * a_shape[0] * a_shape[1] * a_shape[2] * p_shape[2]


@register_flop_formula(torch.ops.mmwf.triton_normalize)
def _normalize_flops(right_shape, *args, out_shape=None, **kwargs) -> int:
    b, r, d = right_shape
    return 2 * b * r * r * d
