"""Features at rotated regions and along curves: RoIAlignRotated, RiRoIAlign, BezierAlign,
rotated feature alignment and active rotating filters.

R rotated regions, (R, 6): index of the image, x, y, w, h in image pixels, angle in radians.
Features are (B, C, H, W), results (R, C, h, w).
"""

import math

import torch
from torch import Tensor

from ._common import bilinear, bin_samples, evaluate, gradients, upcast


def _number(size: Tensor, sampling_ratio: int) -> int:
    return sampling_ratio if sampling_ratio > 0 else max(int(size.ceil()), 0)


def _mean_in_bins(image, rows, columns, place) -> Tensor:
    """Mean of samples, (C, h, w), whose rows (h, n) and columns (w, m) ``place`` maps to y, x."""
    y, x = place(rows[:, None, :, None], columns[None, :, None, :])
    samples = bilinear(image, *torch.broadcast_tensors(y, x))
    return samples.sum((-2, -1)) / max(rows.shape[1] * columns.shape[1], 1)


def _align_rotated(features, rois, size, spatial_scale, sampling_ratio, aligned, clockwise):
    out = []
    for roi in rois:
        x, y = roi[1:3] * spatial_scale - 0.5 * aligned
        w, h = roi[3:5] * spatial_scale
        if not aligned:
            w, h = w.clamp(min=1), h.clamp(min=1)
        angle = -roi[5] if clockwise else roi[5]
        bin_h, bin_w = h / size[0], w / size[1]
        rows = bin_samples(-h / 2, bin_h, size[0], _number(bin_h, sampling_ratio))
        columns = bin_samples(-w / 2, bin_w, size[1], _number(bin_w, sampling_ratio))

        def place(v, u, angle=angle, x=x, y=y):
            cos, sin = angle.cos(), angle.sin()
            return v * cos - u * sin + y, v * sin + u * cos + x

        out.append(_mean_in_bins(features[int(roi[0])], rows, columns, place))
    return torch.stack(out) if out else features.new_zeros(0, features.shape[1], *size)


def roi_align_rotated_forward(
    input,
    rois,
    output,
    pooled_height,
    pooled_width,
    spatial_scale,
    sampling_ratio,
    aligned,
    clockwise,
) -> None:
    """RoIAlign of rotated regions.

    Args:
        input: (B, C, H, W).
        rois: (R, 6).
        output: Filled, (R, C, h, w).
        pooled_height: h.
        pooled_width: w.
        spatial_scale: Feature pixels per image pixel.
        sampling_ratio: Samples along each side of a bin; 0 chooses by the size of the region.
        aligned: Whether pixel centres lie at half coordinates.
        clockwise: Whether angles are clockwise in the image.
    """
    args = (pooled_height, pooled_width), spatial_scale, sampling_ratio, aligned, clockwise
    output.copy_(evaluate(lambda x, r: _align_rotated(x, r, *args), input, rois))


def roi_align_rotated_backward(
    grad_output,
    rois,
    grad_input,
    pooled_height,
    pooled_width,
    spatial_scale,
    sampling_ratio,
    aligned,
    clockwise,
) -> None:
    """Fills ``grad_input``, (B, C, H, W)."""
    args = (pooled_height, pooled_width), spatial_scale, sampling_ratio, aligned, clockwise
    rois = upcast(grad_output, rois)[1]
    (grad,) = gradients(lambda x: _align_rotated(x, rois, *args), [grad_input], grad_output)
    grad_input.copy_(grad)


def _riroi(features, rois, size, spatial_scale, num_samples, num_orientations, clockwise):
    """RoIAlign of rotated regions whose orientation channels are turned with the region."""
    args = spatial_scale, num_samples
    # Not aligned: without the half pixel, and at least one pixel large.
    aligned = _align_rotated(features, rois, size, *args, False, clockwise)
    channels = aligned.unflatten(1, (-1, num_orientations))
    out = []
    for region, roi in zip(channels, rois, strict=True):
        turn = float(roi[5]) * num_orientations / (2 * math.pi)
        whole = math.floor(turn)
        share = turn - whole
        first = region.roll(whole, dims=1)  # channel o takes channel o - whole
        out.append((1 - share) * first + share * region.roll(whole - 1, dims=1))
    return torch.stack(out).flatten(1, 2) if out else aligned


def riroi_align_rotated_forward(
    features,
    rois,
    output,
    pooled_height,
    pooled_width,
    spatial_scale,
    num_samples,
    num_orientations,
    clockwise,
) -> None:
    """Rotation-invariant RoIAlign; arguments as in :func:`roi_align_rotated_forward`.

    Args:
        num_orientations: Orientations O of features (B, C O, H, W).
    """
    args = (pooled_height, pooled_width), spatial_scale, num_samples, num_orientations, clockwise
    output.copy_(evaluate(lambda x, r: _riroi(x, r, *args), features, rois))


def riroi_align_rotated_backward(
    grad_output,
    rois,
    grad_input,
    pooled_height,
    pooled_width,
    spatial_scale,
    num_samples,
    num_orientations,
    clockwise,
) -> None:
    """Fills ``grad_input``, (B, C O, H, W)."""
    args = (pooled_height, pooled_width), spatial_scale, num_samples, num_orientations, clockwise
    rois = upcast(grad_output, rois)[1]
    (grad,) = gradients(lambda x: _riroi(x, rois, *args), [grad_input], grad_output)
    grad_input.copy_(grad)


def _cubic(points: Tensor, bins: int) -> Tensor:
    """Points of a cubic Bezier curve, (4, 2), at 0, 1 / bins, ...: (bins, 2)."""
    u = (torch.arange(bins, device=points.device, dtype=points.dtype) / bins)[:, None]
    factors = ((1 - u) ** 3, 3 * u * (1 - u) ** 2, 3 * u**2 * (1 - u), u**3)
    return sum(f * p for f, p in zip(factors, points, strict=True))


def _bezier_align(features, beziers, size, spatial_scale, sampling_ratio, aligned):
    out = []
    for bezier in beziers:
        points = bezier[1:].view(8, 2) * spatial_scale
        upper, lower = points[:4], points[4:].flip(0)
        sides = torch.maximum((upper[0] - upper[3]).abs(), (lower[0] - lower[3]).abs())
        if not aligned:
            sides = sides.clamp(min=1)
        bin_w, bin_h = sides[0] / size[1], sides[1] / size[0]
        v = torch.arange(size[0], device=points.device, dtype=points.dtype) / size[0]
        v = v[:, None, None]
        centres = _cubic(lower, size[1]) * v + _cubic(upper, size[1]) * (1 - v) - 0.5 * aligned
        rows = bin_samples(-bin_h / 2, bin_h, 1, _number(bin_h, sampling_ratio))
        columns = bin_samples(-bin_w / 2, bin_w, 1, _number(bin_w, sampling_ratio))

        def place(y, x, centres=centres):
            return centres[..., 1, None, None] + y, centres[..., 0, None, None] + x

        out.append(_mean_in_bins(features[int(bezier[0])], rows, columns, place))
    return torch.stack(out) if out else features.new_zeros(0, features.shape[1], *size)


def bezier_align_forward(
    input,
    beziers,
    output,
    aligned_height,
    aligned_width,
    spatial_scale,
    sampling_ratio,
    aligned,
) -> None:
    """RoIAlign between two cubic Bezier curves.

    Args:
        input: (B, C, H, W).
        beziers: (R, 17): index of the image, four points of the upper curve, four of the lower
            one from right to left.
        output: Filled, (R, C, h, w).
        aligned_height: h.
        aligned_width: w.
        spatial_scale: Feature pixels per image pixel.
        sampling_ratio: Samples along each side of a bin; 0 chooses by the size of the region.
        aligned: Whether pixel centres lie at half coordinates.
    """
    args = (aligned_height, aligned_width), spatial_scale, sampling_ratio, aligned
    output.copy_(evaluate(lambda x, b: _bezier_align(x, b, *args), input, beziers))


def bezier_align_backward(
    grad_output,
    beziers,
    grad_input,
    aligned_height,
    aligned_width,
    spatial_scale,
    sampling_ratio,
    aligned,
) -> None:
    """Fills ``grad_input``, (B, C, H, W)."""
    args = (aligned_height, aligned_width), spatial_scale, sampling_ratio, aligned
    beziers = upcast(grad_output, beziers)[1]
    (grad,) = gradients(lambda x: _bezier_align(x, beziers, *args), [grad_input], grad_output)
    grad_input.copy_(grad)


def _feature_align(features, boxes, spatial_scale, points):
    """Each feature plus the features at its box's centre and, for 5 points, its corners."""
    y, x, w, h = (boxes[..., :4] * spatial_scale).unbind(-1)  # mmcv reads (y, x, w, h, angle)
    rows, columns = [y], [x]
    if points == 5:
        cos, sin = boxes[..., 4].cos() / 2, boxes[..., 4].sin() / 2
        for a, b in ((1, 1), (-1, 1), (-1, -1), (1, -1)):
            columns.append(x + a * cos * w - b * sin * h)
            rows.append(y + a * sin * w + b * cos * h)
    samples = [
        sum(bilinear(image, row[i], column[i]) for row, column in zip(rows, columns, strict=True))
        for i, image in enumerate(features)
    ]
    return features + torch.stack(samples)


def rotated_feature_align_forward(features, best_bboxes, output, spatial_scale, points) -> None:
    """Adds to each feature those at its refined rotated box.

    Args:
        features: (B, C, H, W).
        best_bboxes: (B, H, W, 5) in image pixels, the centre as (y, x).
        output: Filled, (B, C, H, W).
        spatial_scale: Feature pixels per image pixel.
        points: 1 for the centre, 5 for the centre and the corners.
    """
    args = spatial_scale, points
    output.copy_(evaluate(lambda x, b: _feature_align(x, b, *args), features, best_bboxes))


def rotated_feature_align_backward(
    grad_output, best_bboxes, grad_input, spatial_scale, points
) -> None:
    """Fills ``grad_input``, (B, C, H, W)."""
    boxes = upcast(grad_output, best_bboxes)[1]
    (grad,) = gradients(
        lambda x: _feature_align(x, boxes, spatial_scale, points), [grad_input], grad_output
    )
    grad_input.copy_(grad)


def active_rotated_filter_forward(input, indices, output) -> None:
    """Turns filters: entry e of a filter goes to ``indices[e, r] - 1`` of its r-th copy.

    Args:
        input: (O, I, N, k, k), N orientations.
        indices: (N, k, k, R), from 1 to N k k.
        output: Filled, (O R, I N, k, k).
    """
    out, planes = input.shape[:2]
    target = indices.long().flatten(0, 2).T - 1  # (R, entries)
    turned = output.new_zeros(out, len(target), planes, target.shape[1])
    index = target[None, :, None].expand_as(turned)
    turned.scatter_(3, index, input.flatten(2)[:, None].expand_as(turned).to(turned.dtype))
    output.copy_(turned.view_as(output))


def active_rotated_filter_backward(grad_out, indices, grad_in) -> None:
    """Fills ``grad_in``, (O, I, N, k, k)."""
    out, planes = grad_in.shape[:2]
    target = indices.long().flatten(0, 2).T - 1
    grads = grad_out.reshape(out, len(target), planes, target.shape[1])
    grad = grads.gather(3, target[None, :, None].expand_as(grads)).sum(1)
    grad_in.copy_(grad.view_as(grad_in))
