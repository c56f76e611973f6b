"""Correlation of two feature maps over a window of displacements."""

import torch
import torch.nn.functional as F

from ._common import evaluate, gradients


def _shifted(x, dy, dx):
    """``out[..., i, j] = x[..., i + dy, j + dx]``, zero outside."""
    height, width = x.shape[-2:]
    padded = F.pad(x, [max(-dx, 0), max(dx, 0), max(-dy, 0), max(dy, 0)])
    return padded[..., max(dy, 0) : max(dy, 0) + height, max(dx, 0) : max(dx, 0) + width]


def _correlate(input1, input2, kernel, patch, padding, dilation, dilation_patch, stride):
    rows = [(i - (patch[0] - 1) // 2) * dilation_patch[0] for i in range(patch[0])]
    columns = [(j - (patch[1] - 1) // 2) * dilation_patch[1] for j in range(patch[1])]
    ones = input1.new_ones(1, 1, *kernel)
    maps = []
    for dy in rows:
        for dx in columns:
            product = (input1 * _shifted(input2, dy, dx)).sum(1, keepdim=True)
            maps.append(F.conv2d(product, ones, None, stride, padding, dilation))
    return torch.cat(maps, dim=1).unflatten(1, tuple(patch))


def correlation_forward(
    input1,
    input2,
    output,
    kH,
    kW,
    patchH,
    patchW,
    padH,
    padW,
    dilationH,
    dilationW,
    dilation_patchH,
    dilation_patchW,
    dH,
    dW,
) -> None:
    """Sums products over channels and kernels.

    Args:
        input1: (B, C, H, W).
        input2: (B, C, H, W).
        output: Filled, (B, patchH, patchW, H', W').
        kH: Kernel; padding, dilation and stride (dH, dW) are those of a convolution.
        patchH: Number of displacements, ``dilation_patch`` apart.
    """
    args = (kH, kW), (patchH, patchW), (padH, padW), (dilationH, dilationW)
    args = *args, (dilation_patchH, dilation_patchW), (dH, dW)
    output.copy_(evaluate(lambda a, b: _correlate(a, b, *args), input1, input2))


def correlation_backward(
    grad_output,
    input1,
    input2,
    grad_input1,
    grad_input2,
    kH,
    kW,
    patchH,
    patchW,
    padH,
    padW,
    dilationH,
    dilationW,
    dilation_patchH,
    dilation_patchW,
    dH,
    dW,
) -> None:
    """Fills the gradients of both inputs."""
    args = (kH, kW), (patchH, patchW), (padH, padW), (dilationH, dilationW)
    args = *args, (dilation_patchH, dilation_patchW), (dH, dW)
    grads = gradients(lambda a, b: _correlate(a, b, *args), [input1, input2], grad_output)
    grad_input1.copy_(grads[0])
    grad_input2.copy_(grads[1])
