"""Precise RoI pooling: the mean of the bilinearly interpolated features over each bin, exactly.

R regions, (R, 5): index of the image, x1, y1, x2, y2 in image pixels. A bilinear interpolation is
a sum of products of hat functions, so its integral over a bin is a product of two matrices.
"""

import torch
from torch import Tensor

from ._common import evaluate, gradients, upcast


def _integral_of_hat(t: Tensor) -> Tensor:
    """Integral of max(0, 1 - |s|) up to t."""
    t = t.clamp(-1, 1)
    return torch.where(t < 0, (t + 1) ** 2 / 2, 1 - (1 - t) ** 2 / 2)


def _weights(start: Tensor, end: Tensor, bins: int, pixels: int) -> Tensor:
    """Share of each pixel in the mean over each of the bins from start to end: (bins, pixels)."""
    size = (end - start).clamp(min=0) / bins
    borders = start + torch.arange(bins + 1, device=size.device, dtype=size.dtype) * size
    distances = borders[:, None] - torch.arange(pixels, device=size.device, dtype=size.dtype)
    shares = _integral_of_hat(distances[1:]) - _integral_of_hat(distances[:-1])
    return shares / torch.where(size > 0, size, 1)


def _pool(features, rois, height, width, spatial_scale):
    out = []
    for roi in rois:
        x1, y1, x2, y2 = roi[1:] * spatial_scale
        rows = _weights(y1, y2, height, features.shape[2])
        columns = _weights(x1, x2, width, features.shape[3])
        out.append(rows @ features[int(roi[0])] @ columns.T)
    return torch.stack(out) if out else features.new_zeros(0, features.shape[1], height, width)


def prroi_pool_forward(input, rois, output, pooled_height, pooled_width, spatial_scale) -> None:
    """Fills ``output``, (R, C, h, w).

    Args:
        input: (B, C, H, W).
        rois: (R, 5).
        output: Filled.
        pooled_height: h.
        pooled_width: w.
        spatial_scale: Feature pixels per image pixel.
    """
    args = pooled_height, pooled_width, spatial_scale
    output.copy_(evaluate(lambda x, r: _pool(x, r, *args), input, rois))


def prroi_pool_backward(
    grad_output, rois, grad_input, pooled_height, pooled_width, spatial_scale
) -> None:
    """Fills ``grad_input``, (B, C, H, W)."""
    args = pooled_height, pooled_width, spatial_scale
    rois = upcast(grad_output, rois)[1]
    (grad,) = gradients(lambda x: _pool(x, rois, *args), [grad_input], grad_output)
    grad_input.copy_(grad)


def prroi_pool_coor_backward(
    output, grad_output, input, rois, grad_rois, pooled_height, pooled_width, spatial_scale
) -> None:
    """Fills ``grad_rois``, (R, 5); zero for the index of the image."""
    args = pooled_height, pooled_width, spatial_scale
    features = upcast(input, rois)[0]
    (grad,) = gradients(lambda r: _pool(features, r, *args), [rois], grad_output)
    grad_rois.copy_(grad)
