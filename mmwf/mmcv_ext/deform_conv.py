"""Deformable convolution, without (v1) and with (v2) modulation, by torchvision's kernels.

B images, C input and O output channels, kernels of (h, w), G offset groups; offsets are
(B, 2 G h w, H, W) as (y, x) pairs, masks (B, G h w, H, W).
"""

import torch
from torch import Tensor

from ._common import no_autocast, upcast


def _convolve(input, weight, offset, mask, bias, *geometry, use_mask) -> Tensor:
    with no_autocast(input):
        return torch.ops.torchvision.deform_conv2d(
            *upcast(input, weight, offset, mask, bias), *geometry, use_mask
        )


def _just_outside(offset: Tensor, weight: Tensor, *geometry) -> Tensor:
    """Where a sample lies exactly one pixel above or left of the image, in the offsets' shape.

    There the derivative by the offset jumps: torchvision takes it from inside, mmcv takes zero.
    It matters, because offsets begin as zero and images are padded by one.
    """
    sides, kernel = offset.shape[2:], weight.shape[2:]
    stride, padding, dilation = geometry[0:2], geometry[2:4], geometry[4:6]
    tap, pixel = (
        [torch.arange(n, device=offset.device) * step for n, step in zip(ns, steps, strict=True)]
        for ns, steps in ((kernel, dilation), (sides, stride))
    )
    moves = offset.unflatten(1, (-1, *kernel, 2))  # (B, G, h, w, 2, H, W)
    y = tap[0][:, None, None, None] + pixel[0][:, None] - padding[0] + moves[:, :, :, :, 0]
    x = tap[1][:, None, None] + pixel[1] - padding[1] + moves[:, :, :, :, 1]
    outside = (y == -1) | (x == -1)
    return outside[:, :, :, :, None].expand_as(moves).reshape(offset.shape)


def _backward(grad_output, input, weight, offset, mask, bias, *geometry, use_mask):
    """Gradients of input, weight, offset, mask and bias."""
    with no_autocast(input):
        grads = torch.ops.torchvision._deform_conv2d_backward(
            *upcast(grad_output, input, weight, offset, mask, bias), *geometry, use_mask
        )
    outside = _just_outside(offset, weight, *geometry)
    return *grads[:2], grads[2].masked_fill(outside, 0), *grads[3:]


def _without_mask(input: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """The mask and bias that torchvision's kernel expects where there are none."""
    return input.new_zeros(len(input), 1), input.new_zeros(len(weight))


def deform_conv_forward(
    input,
    weight,
    offset,
    output,
    columns,
    ones,
    kW,
    kH,
    dW,
    dH,
    padW,
    padH,
    dilationW,
    dilationH,
    group,
    deformable_group,
    im2col_step,
) -> None:
    """Fills ``output``, (B, O, H, W); the buffers ``columns`` and ``ones`` are not needed."""
    geometry = (dH, dW, padH, padW, dilationH, dilationW, group, deformable_group)
    mask, bias = _without_mask(input, weight)
    output.copy_(_convolve(input, weight, offset, mask, bias, *geometry, use_mask=False))


def deform_conv_backward_input(
    input,
    offset,
    grad_output,
    grad_input,
    grad_offset,
    weight,
    columns,
    kW,
    kH,
    dW,
    dH,
    padW,
    padH,
    dilationW,
    dilationH,
    group,
    deformable_group,
    im2col_step,
) -> None:
    """Fills the gradients of input and offset."""
    geometry = (dH, dW, padH, padW, dilationH, dilationW, group, deformable_group)
    mask, bias = _without_mask(input, weight)
    grads = _backward(grad_output, input, weight, offset, mask, bias, *geometry, use_mask=False)
    grad_input.copy_(grads[0])
    grad_offset.copy_(grads[2])


def deform_conv_backward_parameters(
    input,
    offset,
    grad_output,
    grad_weight,
    columns,
    ones,
    kW,
    kH,
    dW,
    dH,
    padW,
    padH,
    dilationW,
    dilationH,
    group,
    deformable_group,
    scale,
    im2col_step,
) -> None:
    """Adds ``scale`` times the gradient of the weight to ``grad_weight``."""
    geometry = (dH, dW, padH, padW, dilationH, dilationW, group, deformable_group)
    mask, bias = _without_mask(input, grad_weight)
    # The gradient of the weight does not depend on the weight.
    weight = torch.zeros_like(grad_weight)
    grads = _backward(grad_output, input, weight, offset, mask, bias, *geometry, use_mask=False)
    grad_weight.add_(grads[1].to(grad_weight.dtype), alpha=scale)


def modulated_deform_conv_forward(
    input,
    weight,
    bias,
    ones,
    offset,
    mask,
    output,
    columns,
    kernel_h,
    kernel_w,
    stride_h,
    stride_w,
    pad_h,
    pad_w,
    dilation_h,
    dilation_w,
    group,
    deformable_group,
    with_bias,
) -> None:
    """Fills ``output``, (B, O, H, W); the buffers ``ones`` and ``columns`` are not needed."""
    geometry = (stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, group, deformable_group)
    bias = bias if with_bias else input.new_zeros(len(weight))
    output.copy_(_convolve(input, weight, offset, mask, bias, *geometry, use_mask=True))


def modulated_deform_conv_backward(
    input,
    weight,
    bias,
    ones,
    offset,
    mask,
    columns,
    grad_input,
    grad_weight,
    grad_bias,
    grad_offset,
    grad_mask,
    grad_output,
    kernel_h,
    kernel_w,
    stride_h,
    stride_w,
    pad_h,
    pad_w,
    dilation_h,
    dilation_w,
    group,
    deformable_group,
    with_bias,
) -> None:
    """Fills the five gradients, that of the bias only ``with_bias``."""
    geometry = (stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, group, deformable_group)
    bias = bias if with_bias else input.new_zeros(len(weight))
    grads = _backward(grad_output, input, weight, offset, mask, bias, *geometry, use_mask=True)
    outs = [grad_input, grad_weight, grad_offset, grad_mask, *([grad_bias] if with_bias else [])]
    for out, grad in zip(outs, grads, strict=False):
        out.copy_(grad)
