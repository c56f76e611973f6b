"""Grouping of pixels into text instances (PAN, PSENet), as breadth-first searches."""

from collections import deque

import numpy as np
from torch import Tensor

#: Steps (y, x) in the orders in which mmcv's two searches take them.
_ROWS_FIRST = ((-1, 0), (1, 0), (0, -1), (0, 1))
_COLUMNS_FIRST = ((0, -1), (0, 1), (-1, 0), (1, 0))


def _neighbours(y: int, x: int, shape, steps):
    """The pixels beside (y, x) that are inside."""
    for dy, dx in steps:
        if 0 <= y + dy < shape[0] and 0 <= x + dx < shape[1]:
            yield y + dy, x + dx


def pixel_group(
    score: Tensor,
    mask: Tensor,
    embedding: Tensor,
    kernel_label: Tensor,
    kernel_contour: Tensor,
    kernel_region_num: int,
    distance_threshold: float,
) -> list[list[float]]:
    """Grows text kernels over the mask to pixels whose embedding is near the kernel's mean.

    Args:
        score: Foreground probability, (H, W).
        mask: Foreground, (H, W).
        embedding: (H, W, D).
        kernel_label: Label of each kernel's pixels, else 0, (H, W).
        kernel_contour: Whether a pixel is on a kernel's contour, (H, W).
        kernel_region_num: Number of labels, 0 included.
        distance_threshold: Greatest distance to the kernel's mean, excluded.

    Returns:
        For each label its mean score, its number of pixels, and their x, y, x, y, ...
    """
    arrays = score, mask, embedding, kernel_label, kernel_contour
    score, mask, embedding, labels, contour = (x.detach().cpu().numpy() for x in arrays)
    labels, mask = labels.copy(), mask.astype(bool)
    means = {
        label: embedding[labels == label].mean(0)
        for label in range(1, kernel_region_num)
        if (labels == label).any()
    }
    queue = deque((y, x) for y, x in np.argwhere((labels > 0) & (contour > 0)).tolist())
    while queue:
        y, x = queue.popleft()
        mean = means[int(labels[y, x])]
        for v, u in _neighbours(y, x, labels.shape, _COLUMNS_FIRST):
            near = ((embedding[v, u] - mean) ** 2).sum() < distance_threshold**2
            if mask[v, u] and labels[v, u] <= 0 and near:
                labels[v, u] = labels[y, x]
                queue.append((v, u))
    groups = [[0.0, 0.0]]
    for label in range(1, kernel_region_num):
        ys, xs = np.nonzero(labels == label)
        points = np.stack([xs, ys], axis=1).ravel().astype(float).tolist()
        mean_score = float(score[ys, xs].mean()) if len(xs) else 0.0
        groups.append([mean_score, float(len(xs)), *points])
    return groups


def contour_expand(
    kernel_mask: Tensor, internal_kernel_label: Tensor, min_kernel_area: int, kernel_num: int
) -> list[list[int]]:
    """Progressive scale expansion: grows the smallest kernels over ever larger ones.

    Args:
        kernel_mask: (K, H, W), from the largest kernels to the smallest.
        internal_kernel_label: Labels of the smallest kernels, else 0, (H, W).
        min_kernel_area: Labels with fewer pixels are dropped.
        kernel_num: Number of labels, not needed.

    Returns:
        The label of each pixel, H lists of W.

    Note:
        mmcv's compiled operation reads the largest kernels in every round. Here the kernels grow
        in turn, as in PSENet; a pixel between two texts may get the other one's label.
    """
    masks, labels = kernel_mask.cpu().numpy(), internal_kernel_label.cpu().numpy().copy()
    areas = np.bincount(labels[labels > 0].ravel(), minlength=int(labels.max(initial=0)) + 1)
    labels[areas[labels] < min_kernel_area] = 0
    edge = deque((y, x) for y, x in np.argwhere(labels > 0).tolist())
    for mask in masks[:-1][::-1]:
        queue, edge = edge, deque()
        while queue:
            y, x = queue.popleft()
            grown = False
            for v, u in _neighbours(y, x, labels.shape, _ROWS_FIRST):
                if mask[v, u] and labels[v, u] <= 0:
                    labels[v, u] = labels[y, x]
                    queue.append((v, u))
                    grown = True
            if not grown:
                edge.append((y, x))
    return labels.tolist()
