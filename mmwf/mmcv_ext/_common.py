"""What the families of operations share: precision, gradients by autograd, bilinear samples."""

import functools

import torch
from torch import Tensor


def upcast(*tensors: Tensor) -> list[Tensor]:
    """Casts floating-point tensors to their common type, at least float32; others stay."""
    floating = [x.dtype for x in tensors if x.is_floating_point()]
    dtype = functools.reduce(torch.promote_types, floating, torch.float32)
    return [x.to(dtype) if x.is_floating_point() else x for x in tensors]


def no_autocast(tensor: Tensor) -> torch.autocast:
    """Disables autocast on the device of a tensor: operations run in the type they are given."""
    return torch.autocast(tensor.device.type, enabled=False)


def evaluate(function, *inputs: Tensor) -> Tensor:
    """Calls a function with its inputs in full precision, outside autocast."""
    with no_autocast(inputs[0]):
        return function(*upcast(*inputs))


def gradients(function, inputs, grad_output: Tensor) -> list[Tensor]:
    """Vector-Jacobian product of a differentiable function, which is evaluated once more.

    Args:
        function: Maps the inputs to one tensor.
        inputs: Tensors to differentiate with respect to.
        grad_output: Shape of the function's value.

    Returns:
        One gradient for each input, zero where the value does not depend on it.
    """
    with torch.enable_grad(), no_autocast(grad_output):
        leaves = [x.detach().requires_grad_() for x in upcast(*inputs)]
        value = function(*leaves)
        if not value.requires_grad:
            return [torch.zeros_like(x) for x in leaves]
        return torch.autograd.grad(
            value, leaves, grad_output.to(value.dtype), allow_unused=True, materialize_grads=True
        )


def bilinear(image: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Bilinear samples with RoIAlign's border: zero beyond one pixel outside, clamped before.

    Args:
        image: (C, H, W).
        y: Any shape S, in pixels; 0 is the centre of the first row.
        x: S.

    Returns:
        (C, S), differentiable with respect to all three.
    """
    height, width = image.shape[1:]
    inside = (y >= -1) & (y <= height) & (x >= -1) & (x <= width)
    y, x = y.clamp(0, height - 1), x.clamp(0, width - 1)
    y0, x0 = y.detach().floor().long(), x.detach().floor().long()
    y1, x1 = (y0 + 1).clamp(max=height - 1), (x0 + 1).clamp(max=width - 1)
    dy, dx = y - y0, x - x0
    pixels = image.flatten(1)

    def at(rows, columns):
        return pixels[:, rows * width + columns]

    top = (1 - dx) * at(y0, x0) + dx * at(y0, x1)
    bottom = (1 - dx) * at(y1, x0) + dx * at(y1, x1)
    return ((1 - dy) * top + dy * bottom) * inside


def bin_samples(start, size, bins: int, samples: int) -> Tensor:
    """Coordinates of samples at the centres of equal cells of bins: (bins, samples).

    Args:
        start: Scalar tensor, where the first bin begins.
        size: Scalar tensor, side of one bin.
        bins: Number of bins.
        samples: Number of samples in each bin.
    """
    index = torch.arange(bins, device=start.device, dtype=start.dtype)
    cell = torch.arange(samples, device=start.device, dtype=start.dtype)
    return start + (index[:, None] + (cell + 0.5) / max(samples, 1)) * size
