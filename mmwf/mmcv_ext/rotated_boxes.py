"""Overlaps and suppression of rotated boxes and quadrilaterals; polygons around point sets.

Rotated boxes are (x, y, w, h, angle in radians), quadrilaterals (x1, y1, ..., x4, y4). Pairs are
clipped one against the other in plain PyTorch, many at a time.
"""

import functools

import numpy as np
import torch
from mmengine.logging import print_log
from torch import Tensor

from ._common import no_autocast, upcast

#: Pairs that are compared at a time.
_CHUNK = 1 << 16


@functools.cache
def _say_slow() -> None:
    print_log(
        'Rotated boxes and polygons are compared in plain PyTorch, which is slower than '
        "mmcv's compiled operations: enough for tests and small data.",
        logger='current',
    )


def _corners(boxes: Tensor) -> Tensor:
    """Corners of boxes (..., 5) or (..., 8): (..., 4, 2)."""
    if boxes.shape[-1] == 8:
        return boxes.unflatten(-1, (4, 2))
    centre, sides, angle = boxes[..., None, :2], boxes[..., 2:4], boxes[..., 4:5]
    cos, sin = angle.cos(), angle.sin()
    signs = boxes.new_tensor([[-1, -1], [1, -1], [1, 1], [-1, 1]]) / 2
    x, y = (sides[..., None, :] * signs).unbind(-1)
    return centre + torch.stack([x * cos - y * sin, x * sin + y * cos], dim=-1)


def _cross(a: Tensor, b: Tensor) -> Tensor:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def _area(polygons: Tensor) -> Tensor:
    """Signed area of polygons (..., V, 2)."""
    return _cross(polygons, polygons.roll(-1, dims=-2)).sum(-1) / 2


def _counterclockwise(polygons: Tensor) -> Tensor:
    return torch.where((_area(polygons) < 0)[..., None, None], polygons.flip(-2), polygons)


def _clip(subject: Tensor, clip: Tensor) -> Tensor:
    """Area of the intersection of polygons with convex ones, by Sutherland and Hodgman.

    Every edge of ``clip`` turns each vertex into two: itself, moved onto the edge's line if it is
    outside, and the crossing to its successor. Repeated vertices add no area.

    Args:
        subject: (P, V, 2).
        clip: (P, U, 2), convex.

    Returns:
        (P,).
    """
    clip = _counterclockwise(clip)
    for i in range(clip.shape[1]):
        start, edge = clip[:, i, None], (clip[:, (i + 1) % clip.shape[1]] - clip[:, i])[:, None]
        side = _cross(edge, subject - start)  # at least 0 inside
        following, next_side = subject.roll(-1, dims=1), side.roll(-1, dims=1)
        inside, next_inside = side >= 0, next_side >= 0
        crosses = inside != next_inside
        share = side / torch.where(crosses, side - next_side, 1)
        crossing = subject + share[..., None] * (following - subject)
        # Inside: the vertex, then the crossing if the edge leaves. Outside: the crossing if the
        # edge comes in; else nothing, which is marked for removal.
        first = torch.where(inside[..., None], subject, crossing)
        second = torch.where(crosses[..., None], crossing, subject)
        keep = (inside | crosses).repeat_interleave(2, dim=1)
        subject = torch.stack([first, second], dim=2).flatten(1, 2)
        subject = _repeat_previous(subject, keep)
    return _area(subject).abs()


def _repeat_previous(polygons: Tensor, keep: Tensor) -> Tensor:
    """Replaces vertices that are not kept by the kept one before them, cyclically.

    Args:
        polygons: (P, V, 2).
        keep: (P, V); where none is kept, all vertices become one.

    Returns:
        (P, V, 2).
    """
    number = keep.shape[1]
    index = torch.where(keep, torch.arange(number, device=keep.device), -1)
    last = index.amax(1, keepdim=True).clamp(min=0)
    index = torch.where((index := index.cummax(1)[0]) < 0, last, index)
    return polygons.gather(1, index[..., None].expand_as(polygons))


def _pair_ious(boxes1: Tensor, boxes2: Tensor, mode: int) -> Tensor:
    """IoU (mode 0) or share of the first box (mode 1) of P pairs of convex shapes: (P,)."""
    out = []
    for a, b in zip(boxes1.split(_CHUNK), boxes2.split(_CHUNK), strict=True):
        a, b = _corners(a), _corners(b)
        centre = (a.mean(1, keepdim=True) + b.mean(1, keepdim=True)) / 2  # for precision
        a, b = a - centre, b - centre
        area1, area2 = _area(a).abs(), _area(b).abs()
        overlap = _clip(a, b)
        base = area1 if mode == 1 else area1 + area2 - overlap
        valid = (area1 >= 1e-14) & (area2 >= 1e-14)
        out.append(torch.where(valid, overlap / torch.where(valid, base, 1), 0))
    return torch.cat(out) if out else boxes1.new_zeros(0)


def _ious(boxes1: Tensor, boxes2: Tensor, mode: int, aligned: bool) -> Tensor:
    """(P,) of pairs, or (M * N,) of all combinations."""
    _say_slow()
    with no_autocast(boxes1):
        boxes1, boxes2 = upcast(boxes1.detach(), boxes2.detach())
        if aligned:
            return _pair_ious(boxes1, boxes2, mode)
        pairs = boxes1.repeat_interleave(len(boxes2), 0), boxes2.repeat(len(boxes1), 1)
        return _pair_ious(*pairs, mode)


def box_iou_rotated(boxes1, boxes2, ious, mode_flag, aligned) -> None:
    """Overlaps of rotated boxes.

    Args:
        boxes1: (M, 5).
        boxes2: (N, 5).
        ious: Filled, (M * N,), or (M,) if ``aligned``.
        mode_flag: 0 for the union, 1 for the first box.
        aligned: Whether to compare box i with box i only.
    """
    ious.copy_(_ious(boxes1, boxes2, mode_flag, aligned))


def box_iou_quadri(boxes1, boxes2, ious, mode_flag, aligned) -> None:
    """Overlaps of convex quadrilaterals, (M, 8) and (N, 8), as :func:`box_iou_rotated`."""
    ious.copy_(_ious(boxes1, boxes2, mode_flag, aligned))


def _suppress(boxes: Tensor, order: Tensor, iou_threshold: float) -> Tensor:
    """Greedy suppression in the given order: indices of the kept boxes, best first."""
    kept, rest = [], order
    while len(rest):
        best, rest = rest[0], rest[1:]
        kept.append(best)
        overlap = _ious(boxes[best].expand(len(rest), -1), boxes[rest], 0, aligned=True)
        rest = rest[overlap <= iou_threshold]
    return torch.stack(kept) if kept else order


def nms_rotated(dets, scores, order, dets_sorted, labels, iou_threshold, multi_label) -> Tensor:
    """Suppression of rotated boxes.

    Args:
        dets: (N, 5), with a sixth column of labels if ``multi_label``.
        scores: (N,), not needed.
        order: (N,), indices by falling score.
        dets_sorted: Not needed.
        labels: Not needed.
        iou_threshold: Boxes that overlap a better one by more than this are dropped.
        multi_label: Ignored, as by mmcv's kernels: boxes of all labels suppress each other.
            mmcv's ``batched_nms`` moves labels apart.

    Returns:
        (K,) indices of the kept boxes, best first.
    """
    return _suppress(dets[:, :5], order, iou_threshold)


def nms_quadri(dets, scores, order, dets_sorted, iou_threshold, multi_label) -> Tensor:
    """Suppression of quadrilaterals, (N, 8) or (N, 9); as :func:`nms_rotated`."""
    return _suppress(dets[:, :8], order, iou_threshold)


def points_in_polygons_forward(points, polygons, output) -> None:
    """Tells which points are inside which quadrilaterals, by counting crossings.

    Args:
        points: (B, 2).
        polygons: (M, 8).
        output: Filled with 1 and 0, (B, M).
    """
    points, polygons = upcast(points, polygons)
    start = _corners(polygons)
    end = start.roll(1, dims=1)
    x, y = points[:, None, None].unbind(-1)  # (B, 1, 1)
    (x1, y1), (x2, y2) = start.unbind(-1), end.unbind(-1)  # (M, 4)
    spans = (y1 < y) != (y2 < y)
    crossing = x1 + (y - y1) * (x2 - x1) / torch.where(y1 == y2, 1, y2 - y1)
    output.copy_((spans & (crossing > x)).sum(-1) % 2)


def _hull(points: Tensor) -> np.ndarray:
    """Corners of the convex hull of (18,) coordinates, by OpenCV: (V, 2)."""
    import cv2

    hull = cv2.convexHull(points.detach().float().cpu().numpy().reshape(-1, 2))[:, 0]
    return hull.astype(np.float64)


def min_area_polygons(pointsets, polygons) -> None:
    """The rectangle of least area around each point set: one of its sides lies on the hull.

    Args:
        pointsets: (N, 18), nine points.
        polygons: Filled, (N, 8). In a frame turned by an angle below 90 degrees, the corners are
            (right, top), (left, top), (left, bottom), (right, bottom).
    """
    for i, points in enumerate(pointsets):
        hull = _hull(points)
        edges = np.roll(hull, -1, axis=0) - hull
        angles = np.arctan2(edges[:, 1], edges[:, 0]) % (np.pi / 2)
        cos, sin = np.cos(angles), np.sin(angles)
        axes = np.stack([cos, sin, -sin, cos], axis=1).reshape(-1, 2, 2)
        turned = hull @ axes.transpose(0, 2, 1)  # (edges, points, 2)
        low, high = turned.min(1), turned.max(1)
        best = np.prod(high - low, axis=1).argmin()
        (left, top), (right, bottom) = low[best], high[best]
        corners = np.array([[right, top], [left, top], [left, bottom], [right, bottom]])
        polygons[i] = torch.from_numpy((corners @ axes[best]).ravel()).to(polygons)


def convex_iou(pointsets, polygons, ious) -> None:
    """IoU of the convex hulls of point sets with quadrilaterals.

    Args:
        pointsets: (N, 18), nine points.
        polygons: (K, 8), convex.
        ious: Filled, (N, K).
    """
    _say_slow()
    corners = _corners(upcast(polygons.detach())[0])
    for i, points in enumerate(pointsets):
        hull = torch.from_numpy(_hull(points)).to(corners).expand(len(corners), -1, -1)
        overlap = _clip(hull, corners)
        union = _area(hull).abs() + _area(corners).abs() - overlap
        ious[i] = (overlap / union).to(ious.dtype)
