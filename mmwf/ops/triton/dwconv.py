"""Depthwise convolution of tokens, with an optional residual and LayerNorm in the same kernel.

Shapes: B images of H x W tokens with C channels, T = B H W, kernels of K x K taps. ``taps`` are the
kernels in fp32, (1, K K, C) for all images or (B, K K, C).
"""

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from .launch import on_device, readable, storage_dtype

TILE = 2048  #: elements of a tile
PROGRAMS = 256  #: largest number of programs of the norm's gradient
SUMMED = 1024  #: tokens that a program of the taps' gradient sums


@triton.jit
def _forward_kernel(
    x_ptr, taps_ptr, bias_ptr, norm_weight_ptr, norm_bias_ptr,
    y_ptr, normed_ptr, mean_ptr, rstd_ptr,
    H, W, C, image_stride, eps,
    K: tl.constexpr, HAS_BIAS: tl.constexpr, RESIDUAL: tl.constexpr, NORM: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """A program computes all channels of ``BLOCK_N`` tokens of an image."""
    tiles = tl.cdiv(H * W, BLOCK_N)
    image = (tl.program_id(0) // tiles).to(tl.int64)
    n = (tl.program_id(0) % tiles) * BLOCK_N + tl.arange(0, BLOCK_N)
    c = tl.arange(0, BLOCK_C)
    in_image, in_width = n < H * W, c < C
    row, column = n // W, n % W
    first = image * H * W  # the image's first token

    acc = tl.zeros((BLOCK_N, BLOCK_C), tl.float32)
    for i in tl.static_range(K):
        for j in tl.static_range(K):
            r, s = row + i - K // 2, column + j - K // 2
            inside = in_image & (r >= 0) & (r < H) & (s >= 0) & (s < W)
            offset = (first + r * W + s)[:, None] * C + c[None, :]
            x = tl.load(x_ptr + offset, mask=inside[:, None] & in_width[None, :], other=0.0)
            tap = taps_ptr + image * image_stride + (i * K + j) * C + c
            acc += x.to(tl.float32) * tl.load(tap, mask=in_width, other=0.0)[None, :]
    if HAS_BIAS:
        acc += tl.load(bias_ptr + c, mask=in_width, other=0.0).to(tl.float32)[None, :]

    token = first + n
    offset, mask = token[:, None] * C + c[None, :], in_image[:, None] & in_width[None, :]
    if RESIDUAL:
        acc += tl.load(x_ptr + offset, mask=mask, other=0.0).to(tl.float32)
    y = acc.to(y_ptr.dtype.element_ty)
    tl.store(y_ptr + offset, y, mask=mask)
    if NORM:  # of y as it is stored
        y = y.to(tl.float32)
        mean = tl.sum(y, axis=1) / C
        centered = tl.where(mask, y - mean[:, None], 0.0)
        rstd = 1 / tl.sqrt(tl.sum(centered * centered, axis=1) / C + eps)
        weight = tl.load(norm_weight_ptr + c, mask=in_width, other=0.0).to(tl.float32)
        bias = tl.load(norm_bias_ptr + c, mask=in_width, other=0.0).to(tl.float32)
        normed = centered * rstd[:, None] * weight[None, :] + bias[None, :]
        tl.store(normed_ptr + offset, normed.to(normed_ptr.dtype.element_ty), mask=mask)
        tl.store(mean_ptr + token, mean, mask=in_image)
        tl.store(rstd_ptr + token, rstd, mask=in_image)


@triton.jit
def _norm_backward_kernel(
    grad_y_ptr, grad_normed_ptr, y_ptr, mean_ptr, rstd_ptr, norm_weight_ptr,
    grad_ptr, grad_weight_ptr, grad_bias_ptr,
    T, C,
    BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Each of P programs treats every P-th tile of tokens, and sums the parameters' gradients."""
    program, programs = tl.program_id(0), tl.num_programs(0)
    c = tl.arange(0, BLOCK_C)
    in_width = c < C
    weight = tl.load(norm_weight_ptr + c, mask=in_width, other=0.0).to(tl.float32)
    grad_weight = tl.zeros((BLOCK_C,), tl.float32)
    grad_bias = tl.zeros((BLOCK_C,), tl.float32)
    for start in range(program * BLOCK_N, T, programs * BLOCK_N):
        token = start + tl.arange(0, BLOCK_N)
        exists = token < T
        mask = exists[:, None] & in_width[None, :]
        offset = token.to(tl.int64)[:, None] * C + c[None, :]
        grad_normed = tl.load(grad_normed_ptr + offset, mask=mask, other=0.0).to(tl.float32)
        y = tl.load(y_ptr + offset, mask=mask, other=0.0).to(tl.float32)
        mean = tl.load(mean_ptr + token, mask=exists, other=0.0)
        rstd = tl.load(rstd_ptr + token, mask=exists, other=0.0)
        unit = tl.where(mask, (y - mean[:, None]) * rstd[:, None], 0.0)
        grad_weight += tl.sum(grad_normed * unit, axis=0)
        grad_bias += tl.sum(grad_normed, axis=0)
        scaled = grad_normed * weight[None, :]
        along_mean = tl.sum(scaled, axis=1) / C
        along_unit = tl.sum(scaled * unit, axis=1) / C
        grad = (scaled - along_mean[:, None] - unit * along_unit[:, None]) * rstd[:, None]
        grad += tl.load(grad_y_ptr + offset, mask=mask, other=0.0).to(tl.float32)
        tl.store(grad_ptr + offset, grad.to(grad_ptr.dtype.element_ty), mask=mask)
    tl.store(grad_weight_ptr + program * C + c, grad_weight, mask=in_width)
    tl.store(grad_bias_ptr + program * C + c, grad_bias, mask=in_width)


@triton.jit
def _taps_backward_kernel(
    grad_ptr, x_ptr, grad_taps_ptr,
    H, W, C, parts,
    K: tl.constexpr, SUMMED: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """A program sums one tap's gradient over ``SUMMED`` tokens of an image."""
    image = (tl.program_id(0) // parts).to(tl.int64)
    begin = (tl.program_id(0) % parts) * SUMMED
    end = tl.minimum(begin + SUMMED, H * W)
    tap = tl.program_id(1)
    c = tl.program_id(2) * BLOCK_C + tl.arange(0, BLOCK_C)
    in_width = c < C
    first = image * H * W
    acc = tl.zeros((BLOCK_N, BLOCK_C), tl.float32)
    for start in range(begin, end, BLOCK_N):
        n = start + tl.arange(0, BLOCK_N)
        r, s = n // W + tap // K - K // 2, n % W + tap % K - K // 2
        inside = (n < end) & (r >= 0) & (r < H) & (s >= 0) & (s < W)
        mask = inside[:, None] & in_width[None, :]
        grad = tl.load(grad_ptr + (first + n)[:, None] * C + c[None, :], mask=mask, other=0.0)
        x = tl.load(x_ptr + (first + r * W + s)[:, None] * C + c[None, :], mask=mask, other=0.0)
        acc += grad.to(tl.float32) * x.to(tl.float32)
    out = grad_taps_ptr + (tl.program_id(0).to(tl.int64) * K * K + tap) * C + c
    tl.store(out, tl.sum(acc, axis=0), mask=in_width)


def _tile(c: int) -> dict[str, int]:
    """Returns the size of a tile with all C channels."""
    block = triton.next_power_of_2(c)
    return dict(BLOCK_N=max(TILE // block, 1), BLOCK_C=block)


def _launch_forward(x, taps, bias, residual, y, norm=None):
    """Launches the kernel; ``norm`` is (weight, bias, normed, mean, rstd, eps)."""
    (_, h, w, c), k = x.shape, round(taps.shape[1] ** 0.5)
    norm_weight, norm_bias, normed, mean, rstd, eps = norm or (None, None, None, None, None, 0.0)
    tile = _tile(c)
    grid = (x.shape[0] * triton.cdiv(h * w, tile['BLOCK_N']),)
    with on_device(x):
        _forward_kernel[grid](
            x, taps, bias, norm_weight, norm_bias, y, normed, mean, rstd,
            h, w, c, taps.stride(0) if len(taps) > 1 else 0, eps,
            K=k, HAS_BIAS=bias is not None, RESIDUAL=residual, NORM=norm is not None, **tile,
        )  # fmt: skip


@torch.library.custom_op('mmwf::triton_dwconv', mutates_args=())
def dwconv(
    x: Tensor, taps: Tensor, bias: Tensor | None, residual: bool, dtype: torch.dtype
) -> Tensor:
    """Computes the convolution, plus ``x`` if ``residual``, as a tensor of type ``dtype``."""
    x, taps, bias = readable(x), taps.contiguous(), None if bias is None else readable(bias)
    y = torch.empty_like(x, dtype=storage_dtype(dtype))
    _launch_forward(x, taps, bias, residual, y)
    return y.to(dtype)


@torch.library.custom_op('mmwf::triton_dwconv_norm', mutates_args=())
def dwconv_norm(
    x: Tensor,
    taps: Tensor,
    bias: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    eps: float,
    dtype: torch.dtype,
    normed_dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Computes ``y = x + dwconv(x)``, its norm, and mean and 1 / deviation of each token of y."""
    x, taps, bias = readable(x), taps.contiguous(), readable(bias)
    norm_weight, norm_bias = readable(norm_weight), readable(norm_bias)
    y = torch.empty_like(x, dtype=storage_dtype(dtype))
    normed = torch.empty_like(x, dtype=storage_dtype(normed_dtype))
    mean = torch.empty(x.shape[:3], dtype=torch.float32, device=x.device)
    rstd = torch.empty_like(mean)
    _launch_forward(x, taps, bias, True, y, (norm_weight, norm_bias, normed, mean, rstd, eps))
    return y.to(dtype), normed.to(normed_dtype), mean, rstd


@torch.library.custom_op('mmwf::triton_norm_backward', mutates_args=())
def norm_backward(
    grad_y: Tensor,
    grad_normed: Tensor,
    y: Tensor,
    mean: Tensor,
    rstd: Tensor,
    norm_weight: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the whole gradient of y, and those of the norm's weight and bias in fp32."""
    dtype, c = grad_y.dtype, y.shape[-1]
    grad_y, grad_normed, y = readable(grad_y), readable(grad_normed), readable(y)
    grad = torch.empty_like(y)
    tokens, tile = mean.numel(), _tile(c)
    programs = min(triton.cdiv(tokens, tile['BLOCK_N']), PROGRAMS)
    grad_weight = torch.empty(programs, c, dtype=torch.float32, device=y.device)
    grad_bias = torch.empty_like(grad_weight)
    with on_device(y):
        _norm_backward_kernel[(programs,)](
            grad_y, grad_normed, y, mean, rstd, readable(norm_weight),
            grad, grad_weight, grad_bias, tokens, c, **tile,
        )  # fmt: skip
    return grad.to(dtype), grad_weight.sum(0), grad_bias.sum(0)


@torch.library.custom_op('mmwf::triton_taps_backward', mutates_args=())
def taps_backward(grad: Tensor, x: Tensor, kernel_size: int) -> Tensor:
    """Returns the gradient of each image's taps, (B, K K, C)."""
    b, h, w, c = x.shape
    grad, x, parts = readable(grad), readable(x), triton.cdiv(h * w, SUMMED)
    out = torch.empty(b, parts, kernel_size**2, c, dtype=torch.float32, device=x.device)
    block = min(triton.next_power_of_2(c), 64)
    grid = (b * parts, kernel_size**2, triton.cdiv(c, block))
    with on_device(x):
        _taps_backward_kernel[grid](
            grad, x, out, h, w, c, parts,
            K=kernel_size, SUMMED=SUMMED, BLOCK_N=TILE // block, BLOCK_C=block,
        )  # fmt: skip
    return out.sum(1)


@dwconv.register_fake
def _(x, taps, bias, residual, dtype):
    return x.new_empty(x.shape, dtype=dtype)


@dwconv_norm.register_fake
def _(x, taps, bias, norm_weight, norm_bias, eps, dtype, normed_dtype):
    y, normed = x.new_empty(x.shape, dtype=dtype), x.new_empty(x.shape, dtype=normed_dtype)
    mean = x.new_empty(x.shape[:3], dtype=torch.float32)
    return y, normed, mean, torch.empty_like(mean)


@norm_backward.register_fake
def _(grad_y, grad_normed, y, mean, rstd, norm_weight):
    grad_weight = y.new_empty(y.shape[-1], dtype=torch.float32)
    return grad_y.new_empty(y.shape), grad_weight, torch.empty_like(grad_weight)


@taps_backward.register_fake
def _(grad, x, kernel_size):
    return x.new_empty(x.shape[0], kernel_size**2, x.shape[-1], dtype=torch.float32)


def _dwconv_backward(grad, x, taps, needs_input_grad, residual):
    """Returns the gradients of x, taps and bias, or None."""
    needs_x, needs_taps, needs_bias = needs_input_grad[:3]
    grad_x = grad_taps = grad_bias = None
    if needs_x:  # a convolution with the rotated kernel
        grad_x = dwconv(grad, taps.flip(1), None, residual, x.dtype)
    if needs_taps:
        grad_taps = taps_backward(grad, x, round(taps.shape[1] ** 0.5))
        if len(taps) == 1:
            grad_taps = grad_taps.sum(0, keepdim=True)
    if needs_bias:
        grad_bias = grad.sum((0, 1, 2))
    return grad_x, grad_taps, grad_bias


def _setup_dwconv(ctx, inputs, output):
    x, taps, _, ctx.residual, _ = inputs
    ctx.save_for_backward(x, taps)


def _backward_dwconv(ctx, grad):
    grads = _dwconv_backward(grad, *ctx.saved_tensors, ctx.needs_input_grad, ctx.residual)
    return *grads, None, None


def _setup_dwconv_norm(ctx, inputs, output):
    (x, taps, _, norm_weight), (y, _, mean, rstd) = inputs[:4], output
    ctx.save_for_backward(x, taps, norm_weight, y, mean, rstd)


def _backward_dwconv_norm(ctx, grad_y, grad_normed, *_):
    x, taps, norm_weight, y, mean, rstd = ctx.saved_tensors
    grad, *grads = norm_backward(grad_y, grad_normed, y, mean, rstd, norm_weight)
    conv_grads = _dwconv_backward(grad, x, taps, ctx.needs_input_grad, True)
    return *conv_grads, *grads, None, None, None


dwconv.register_autograd(_backward_dwconv, setup_context=_setup_dwconv)
dwconv_norm.register_autograd(_backward_dwconv_norm, setup_context=_setup_dwconv_norm)


def _flops(x_shape, taps_shape, *args, out_shape=None, **kwargs) -> int:
    b, h, w, c = x_shape
    return 2 * b * h * w * c * taps_shape[1]


register_flop_formula([torch.ops.mmwf.triton_dwconv, torch.ops.mmwf.triton_dwconv_norm])(_flops)
