"""Pooling of upright regions of interest: RoIAlign, RoIPool, deformable RoI pooling, BorderAlign.

R regions, (R, 5): index of the image, x1, y1, x2, y2 in image pixels. Features are (B, C, H, W),
results (R, C, h, w).
"""

import torch
from torch import Tensor

from ._common import bilinear, bin_samples, evaluate, gradients, no_autocast, upcast

#: Pixels of a feature map up to which RoIAlign's backward is a product of matrices on the CPU,
#: where torchvision's runs on one core.
SMALL_MAP = 48 * 48


def _samples_per_bin(size: Tensor, sampling_ratio: int) -> int:
    return sampling_ratio if sampling_ratio > 0 else max(int(size.ceil()), 0)


def _align_samples(roi, height, width, spatial_scale, sampling_ratio, aligned):
    """Sample rows (h, n) and columns (w, m) of the bins of one region, (5,)."""
    x1, y1, x2, y2 = roi[1:] * spatial_scale - 0.5 * aligned
    roi_w, roi_h = (x2 - x1, y2 - y1) if aligned else ((x2 - x1).clamp(1), (y2 - y1).clamp(1))
    bin_h, bin_w = roi_h / height, roi_w / width
    rows = bin_samples(y1, bin_h, height, _samples_per_bin(bin_h, sampling_ratio))
    columns = bin_samples(x1, bin_w, width, _samples_per_bin(bin_w, sampling_ratio))
    return rows, columns


def roi_align_forward(
    input,
    rois,
    output,
    argmax_y,
    argmax_x,
    aligned_height,
    aligned_width,
    spatial_scale,
    sampling_ratio,
    pool_mode,
    aligned,
) -> None:
    """RoIAlign: the mean (torchvision) or the maximum (PyTorch) of bilinear samples in each bin.

    Args:
        input: (B, C, H, W).
        rois: (R, 5).
        output: Filled, (R, C, h, w).
        argmax_y: Filled with the maximum's row where ``pool_mode`` is 0, (R, C, h, w).
        argmax_x: Its column.
        aligned_height: h.
        aligned_width: w.
        spatial_scale: Feature pixels per image pixel.
        sampling_ratio: Samples along each side of a bin; 0 chooses by the size of the region.
        pool_mode: 0 for the maximum, 1 for the mean.
        aligned: Whether pixel centres lie at half coordinates.
    """
    features, rois = upcast(input, rois)
    size = (aligned_height, aligned_width)
    if pool_mode == 1:
        with no_autocast(input):
            out = torch.ops.torchvision.roi_align(
                features, rois, spatial_scale, *size, sampling_ratio, aligned
            )
        output.copy_(out)
        return
    for i, roi in enumerate(rois):
        rows, columns = _align_samples(roi, *size, spatial_scale, sampling_ratio, aligned)
        y = rows[:, None, :, None].expand(-1, len(columns), -1, columns.shape[1])
        x = columns[None, :, None, :].expand_as(y)
        y, x = y.flatten(2), x.flatten(2)
        if y.shape[2]:
            values, best = bilinear(features[int(roi[0])], y, x).max(-1)
            output[i].copy_(values)
            for argmax, coordinate in ((argmax_y, y), (argmax_x, x)):
                picked = coordinate.expand(len(best), -1, -1, -1).gather(-1, best[..., None])
                argmax[i].copy_(picked[..., 0])


def _at_argmax(features, rois, argmax_y, argmax_x):
    """Bilinear samples at one point for each region, channel and bin: (R, C, h, w)."""
    out = []
    for i, roi in enumerate(rois):
        image = features[int(roi[0])]
        values = [
            bilinear(image[c : c + 1], argmax_y[i, c], argmax_x[i, c]) for c in range(len(image))
        ]
        out.append(torch.cat(values))
    return torch.stack(out) if out else features.new_zeros(argmax_y.shape)


def _align_weights(start: Tensor, size: Tensor, bins: int, samples: int, limit: int) -> Tensor:
    """Weight of each pixel of an axis in each bin's mean of bilinear samples, (R, bins, limit).

    Args:
        start: (R,), where the regions begin.
        size: (R,), of a bin.
        bins: Bins along the axis.
        samples: Samples in a bin along the axis.
        limit: Pixels along the axis.
    """
    steps = torch.arange(bins * samples, device=start.device, dtype=start.dtype)
    points = start[:, None] + (steps + 0.5) / samples * size[:, None]
    inside = (points >= -1) & (points <= limit)
    pixels = torch.arange(limit, device=start.device, dtype=start.dtype)
    weights = (1 - (points.clamp(0, limit - 1)[..., None] - pixels).abs()).clamp(min=0)
    weights = weights * inside[..., None]
    return weights.unflatten(1, (bins, samples)).mean(2)


def _align_backward_by_products(
    grad: Tensor, rois: Tensor, shape: torch.Size, spatial_scale, sampling_ratio, aligned
) -> Tensor:
    """Gradient of RoIAlign's mean, as products with the weights of rows and columns.

    A bilinear weight is a product of one for the row and one for the column, and so is the mean of
    a grid of samples.
    """
    corners = rois[:, 1:] * spatial_scale - 0.5 * aligned
    sides = corners[:, 2:] - corners[:, :2]
    if not aligned:
        sides = sides.clamp(min=1)
    rows, columns = (
        _align_weights(
            corners[:, axis], sides[:, axis] / bins, bins, sampling_ratio, shape[3 - axis]
        )
        for axis, bins in ((1, grad.shape[2]), (0, grad.shape[3]))
    )
    out = []
    for image in range(shape[0]):
        (index,) = (rois[:, 0] == image).nonzero(as_tuple=True)
        by_row = (grad[index] @ columns[index, None]).transpose(1, 2)  # (n, h, C, W)
        product = rows[index].flatten(0, 1).T @ by_row.flatten(2).flatten(0, 1)
        out.append(product.view(shape[2], shape[1], shape[3]).transpose(0, 1))
    return torch.stack(out)


def roi_align_backward(
    grad_output,
    rois,
    argmax_y,
    argmax_x,
    grad_input,
    aligned_height,
    aligned_width,
    spatial_scale,
    sampling_ratio,
    pool_mode,
    aligned,
) -> None:
    """Fills ``grad_input``, (B, C, H, W); arguments as in :func:`roi_align_forward`."""
    if pool_mode == 1:
        grad, rois = upcast(grad_output, rois)
        small = grad_input.shape[2] * grad_input.shape[3] <= SMALL_MAP
        with no_autocast(grad):
            if grad.device.type == 'cpu' and sampling_ratio > 0 and small:
                args = spatial_scale, sampling_ratio, aligned
                grad_input.copy_(_align_backward_by_products(grad, rois, grad_input.shape, *args))
                return
            grad = torch.ops.torchvision._roi_align_backward(
                grad,
                rois,
                spatial_scale,
                aligned_height,
                aligned_width,
                *grad_input.shape,
                sampling_ratio,
                aligned,
            )
    else:
        rois, y, x = upcast(rois, argmax_y, argmax_x)
        (grad,) = gradients(lambda f: _at_argmax(f, rois, y, x), [grad_input], grad_output)
    grad_input.copy_(grad)


def _pool_range(start, size, bins: int, limit: int):
    """Pixels of each bin, (bins, n), and which of them count."""
    index = torch.arange(bins, device=start.device, dtype=start.dtype)
    first = (index * size + start).floor().clamp(0, limit).long()
    last = ((index + 1) * size + start).ceil().clamp(0, limit).long()
    longest = max(int((last - first).max()), 1)
    pixels = first[:, None] + torch.arange(longest, device=start.device)
    return pixels.clamp(max=limit - 1), pixels < last[:, None]


def roi_pool_forward(
    input, rois, output, argmax, pooled_height, pooled_width, spatial_scale
) -> None:
    """RoIPool with mmcv's bins, whose borders are not rounded as torchvision's are.

    Args:
        input: (B, C, H, W).
        rois: (R, 5).
        output: Filled, (R, C, h, w), with the maximum of each bin; 0 where it has no pixel.
        argmax: Filled with the pixel of the maximum, ``row * W + column``, or -1.
        pooled_height: h.
        pooled_width: w.
        spatial_scale: Feature pixels per image pixel.
    """
    features, rois = upcast(input, rois)
    height, width = features.shape[2:]
    for i, roi in enumerate(rois):
        x1, y1 = roi[1:3] * spatial_scale
        x2, y2 = (roi[3:] + 1) * spatial_scale
        if x2 <= x1 or y2 <= y1:
            continue
        rows, row_counts = _pool_range(y1, (y2 - y1) / pooled_height, pooled_height, height)
        columns, column_counts = _pool_range(x1, (x2 - x1) / pooled_width, pooled_width, width)
        pixels = (rows[:, None, :, None] * width + columns[None, :, None, :]).flatten(2)
        counts = (row_counts[:, None, :, None] & column_counts[None, :, None, :]).flatten(2)
        values = features[int(roi[0])].flatten(1)[:, pixels].masked_fill(~counts, -torch.inf)
        values, best = values.max(-1)
        empty = ~counts.any(-1)
        output[i].copy_(values.masked_fill(empty, 0))
        picked = pixels.expand(len(best), -1, -1, -1).gather(-1, best[..., None])[..., 0]
        argmax[i].copy_(picked.masked_fill(empty, -1))


def roi_pool_backward(
    grad_output, rois, argmax, grad_input, pooled_height, pooled_width, spatial_scale
) -> None:
    """Adds each output's gradient to ``grad_input`` at the pixel of its maximum."""
    channels = grad_input.shape[1]
    images = rois[:, 0].long()[:, None] * channels + torch.arange(channels, device=rois.device)
    pixels = argmax.long().flatten(2)  # (R, C, h w)
    grad = grad_output.flatten(2).masked_fill(pixels < 0, 0)
    flat = grad_input.new_zeros(grad_input.flatten(2).shape).flatten(0, 1)  # (B C, H W)
    index = (images[..., None] * flat.shape[1] + pixels.clamp(min=0)).flatten()
    flat.view(-1).index_add_(0, index, grad.to(flat.dtype).flatten())
    grad_input.add_(flat.view_as(grad_input))


def _deform_roi_pool(features, offset, rois, size, spatial_scale, sampling_ratio, gamma):
    """Mean of the bilinear samples in bins that are moved by ``gamma * offset * side``."""
    out = []
    for i, roi in enumerate(rois):
        rows, columns = _align_samples(roi, *size, spatial_scale, sampling_ratio, True)
        y = rows[:, None, :, None].expand(-1, len(columns), -1, columns.shape[1])
        x = columns[None, :, None, :].expand_as(y)
        if offset.numel():
            sides = (roi[3:] - roi[1:3]) * spatial_scale
            move = gamma * sides[:, None, None] * offset[i]
            x, y = (a + b[:, :, None, None] for a, b in zip((x, y), move, strict=True))
        samples = bilinear(features[int(roi[0])], y, x)
        out.append(samples.sum((-2, -1)) / max(samples.shape[-2] * samples.shape[-1], 1))
    return torch.stack(out) if out else features.new_zeros(0, features.shape[1], *size)


def deform_roi_pool_forward(
    input,
    rois,
    offset,
    output,
    pooled_height,
    pooled_width,
    spatial_scale,
    sampling_ratio,
    gamma,
) -> None:
    """Deformable RoI pooling.

    Args:
        input: (B, C, H, W).
        rois: (R, 5).
        offset: (R, 2, h, w) as (x, y) in sides of the region, or empty.
        output: Filled, (R, C, h, w).
        pooled_height: h.
        pooled_width: w.
        spatial_scale: Feature pixels per image pixel.
        sampling_ratio: Samples along each side of a bin; 0 chooses by the size of the region.
        gamma: Factor of the offsets.
    """
    args = (pooled_height, pooled_width), spatial_scale, sampling_ratio, gamma
    output.copy_(
        evaluate(lambda x, o, r: _deform_roi_pool(x, o, r, *args), input, offset, rois.detach())
    )


def deform_roi_pool_backward(
    grad_output,
    input,
    rois,
    offset,
    grad_input,
    grad_offset,
    pooled_height,
    pooled_width,
    spatial_scale,
    sampling_ratio,
    gamma,
) -> None:
    """Fills the gradients of input and offset."""
    args = (pooled_height, pooled_width), spatial_scale, sampling_ratio, gamma
    rois = upcast(input, rois)[1]
    grads = gradients(
        lambda x, o: _deform_roi_pool(x, o, rois, *args), [input, offset], grad_output
    )
    grad_input.copy_(grads[0])
    grad_offset.copy_(grads[1])


def _border_points(boxes: Tensor, pool_size: int) -> tuple[Tensor, Tensor]:
    """Points on the four borders of boxes, (K, 4): y and x, each (4, K, pool_size + 1)."""
    x1, y1, x2, y2 = boxes.T[..., None]
    steps = torch.arange(pool_size + 1, device=boxes.device, dtype=boxes.dtype) / pool_size
    along_x, along_y = (x2 - x1) * steps, (y2 - y1) * steps
    zero = torch.zeros_like(along_x)
    x = torch.stack([x1 + along_x, x1 + zero, x2 - along_x, x2 + zero])
    y = torch.stack([y1 + zero, y1 + along_y, y2 + zero, y2 - along_y])
    return y, x


def _border_samples(features, boxes, pool_size):
    """Samples on the borders: (B, C, K, 4, pool_size + 1) of features (B, 4 C, H, W)."""
    out = []
    for image, image_boxes in zip(features, boxes, strict=True):
        borders = image.view(4, -1, *image.shape[1:])
        y, x = _border_points(image_boxes, pool_size)
        out.append(torch.stack([bilinear(*args) for args in zip(borders, y, x, strict=True)], 2))
    return torch.stack(out)


def border_align_forward(input, boxes, output, argmax_idx, pool_size) -> None:
    """The maximum of samples on each border of boxes.

    Args:
        input: (B, 4 C, H, W), a quarter for each of the top, left, bottom and right borders.
        boxes: (B, K, 4) as (x1, y1, x2, y2) in feature pixels.
        output: Filled, (B, C, K, 4).
        argmax_idx: Filled with the sample of the maximum, (B, C, K, 4).
        pool_size: Samples on a border, less one.
    """
    features, boxes = upcast(input, boxes)
    values, best = _border_samples(features, boxes, pool_size).max(-1)
    output.copy_(values)
    argmax_idx.copy_(best)


def border_align_backward(grad_output, boxes, argmax_idx, grad_input, pool_size) -> None:
    """Fills ``grad_input``, (B, 4 C, H, W)."""
    boxes = upcast(grad_output, boxes)[1]
    index = argmax_idx.long()[..., None]
    (grad,) = gradients(
        lambda x: _border_samples(x, boxes, pool_size).gather(-1, index)[..., 0],
        [grad_input],
        grad_output,
    )
    grad_input.copy_(grad)
