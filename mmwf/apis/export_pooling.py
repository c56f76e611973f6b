"""Pooling in operations that ``torch.export`` and ONNX know for images of any size.

Shapes: images (..., height, width).
"""

from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

#: The options of ``F.max_pool2d`` for which there is a replacement.
PLAIN = dict(padding=0, dilation=1, ceil_mode=False, return_indices=False)


def _pair(value) -> tuple[int, int]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value, value)


def max_pool2d(x: Tensor, kernel_size, stride=None) -> Tensor:
    """Computes ``F.max_pool2d`` without padding, as the maximum of strided slices.

    PyTorch's own asks whether the sizes are divisible by the stride, and a program for all sizes
    has no answer.
    """
    kernel = _pair(kernel_size)
    stride = _pair(stride) if stride else kernel
    height, width = (size - k + 1 for size, k in zip(x.shape[-2:], kernel, strict=True))
    pooled = None
    for i, j in product(*map(range, kernel)):
        part = x[..., i : height + i : stride[0], j : width + j : stride[1]]
        pooled = part if pooled is None else torch.maximum(pooled, part)
    return pooled


def _interval_weights(cells: int, length: int, like: Tensor) -> Tensor:
    """Returns the weights of the mean over each cell of adaptive pooling, (cells, length)."""
    cell = torch.arange(cells, device=like.device)[:, None]
    position = torch.arange(length, device=like.device)
    start, end = cell * length // cells, ((cell + 1) * length + cells - 1) // cells
    inside = (position >= start) & (position < end)
    return inside.to(like.dtype) / (end - start).to(like.dtype)


def adaptive_avg_pool2d(x: Tensor, output_size) -> Tensor:
    """Computes ``F.adaptive_avg_pool2d`` by two matrix products; ONNX has no such operation."""
    rows, columns = _pair(output_size)
    if rows == columns == 1:
        return x.mean(dim=(-2, -1), keepdim=True)
    rows = _interval_weights(rows, x.shape[-2], x)
    columns = _interval_weights(columns, x.shape[-1], x)
    return rows @ x @ columns.T


class ExportPooling(TorchFunctionMode):
    """Replaces the pooling of all modules by the functions above inside a ``with`` block."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is F.adaptive_avg_pool2d:
            return adaptive_avg_pool2d(*args, **kwargs)
        if func is F.max_pool2d:
            options = {key: value for key, value in kwargs.items() if key != 'stride'}
            if options.items() <= PLAIN.items():
                return max_pool2d(*args, kwargs.get('stride'))
        return func(*args, **kwargs)
