"""Depthwise convolution of tokens with one kernel for all images or one per image."""

import torch
import torch.nn.functional as F
from torch import Tensor

aten = torch.ops.aten


def _as_image(x: Tensor, per_image: bool) -> Tensor:
    """Views or copies tokens (B, H, W, C) as (B, C, H, W), or as one image with B C channels."""
    if not per_image:
        return x.permute(0, 3, 1, 2)
    b, h, w, c = x.shape
    # The CPU is fastest with channels last, and then one image needs no copy.
    if x.device.type == 'cpu':
        return x.permute(1, 2, 0, 3).reshape(1, h, w, b * c).permute(0, 3, 1, 2)
    return x.permute(0, 3, 1, 2).reshape(1, b * c, h, w)


def _as_tokens(image: Tensor, b: int, c: int) -> Tensor:
    """Undoes :func:`_as_image`; the result may not be contiguous."""
    return image.view(b, c, *image.shape[2:]).permute(0, 2, 3, 1)


def conv(x: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    """Convolves tokens, with stride 1 and zero padding that keeps the size.

    Args:
        x: (B, H, W, C).
        kernel: (1, C, 1, K, K) for all images, or (B, C, 1, K, K).
        bias: (C,).

    Returns:
        (B, H, W, C), which may not be contiguous.
    """
    b, c, images = x.shape[0], x.shape[-1], kernel.shape[0]
    image = _as_image(x, images > 1)
    padding = kernel.shape[-1] // 2
    # A group per image and channel. Of one kernel, squeeze keeps the strides of the gradient, which
    # DDP compares with those of the weight.
    weight = kernel.flatten(0, 1) if images > 1 else kernel.squeeze(0)
    y = F.conv2d(image, weight, bias.repeat(images), padding=padding, groups=images * c)
    return _as_tokens(y, b, c)


@torch.library.custom_op('mmwf::dwconv', mutates_args=())
def opaque_conv(x: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    """Computes :func:`conv`, contiguous, as one operation that the compiler does not look into."""
    return conv(x, kernel, bias).contiguous()


@opaque_conv.register_fake
def _(x, kernel, bias):
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@torch.library.custom_op('mmwf::dwconv_backward', mutates_args=())
def _backward(grad: Tensor, x: Tensor, kernel: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    b, c, images = x.shape[0], x.shape[-1], kernel.shape[0]
    padding = kernel.shape[-1] // 2
    grad_image, grad_weight, grad_bias = aten.convolution_backward(
        _as_image(grad, images > 1),
        _as_image(x, images > 1),
        kernel.flatten(0, 1),
        [images * c],
        [1, 1],
        [padding, padding],
        [1, 1],
        False,
        [0, 0],
        images * c,
        [True, True, True],
    )
    return (
        _as_tokens(grad_image, b, c).contiguous(),
        torch.empty_like(kernel).copy_(grad_weight.view(kernel.shape)),  # DDP compares the strides
        grad_bias.view(images, c).sum(dim=0),
    )


@_backward.register_fake
def _(grad, x, kernel):
    return (
        torch.empty_like(x, memory_format=torch.contiguous_format),
        torch.empty_like(kernel),
        x.new_empty(x.shape[-1]),
    )


def _setup_context(ctx, inputs, output):
    x, kernel, _ = inputs
    ctx.save_for_backward(x, kernel)


opaque_conv.register_autograd(
    lambda ctx, grad: _backward(grad, *ctx.saved_tensors), setup_context=_setup_context
)
