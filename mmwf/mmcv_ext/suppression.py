"""Overlaps and non-maximum suppression of upright boxes, (x1, y1, x2, y2)."""

import numpy as np
import torch
from torch import Tensor

from ._common import no_autocast, upcast


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Greedy suppression by torchvision.

    Args:
        boxes: (N, 4).
        scores: (N,).
        iou_threshold: Boxes that overlap a better one by more than this are dropped.
        offset: 0 or 1, what is added to widths and heights.

    Returns:
        (K,) indices of the kept boxes, best first.
    """
    if boxes.numel() == 0:
        return boxes.new_empty(0, dtype=torch.long)
    boxes, scores = upcast(boxes, scores)
    if offset:  # in full precision: in fp16 3008 + 1 is 3008
        boxes = boxes + boxes.new_tensor([0, 0, offset, offset])
    with no_autocast(boxes):
        return torch.ops.torchvision.nms(boxes, scores, iou_threshold)


def _overlap_with_first(boxes: np.ndarray, areas: np.ndarray, offset: int) -> np.ndarray:
    """IoU of the first box with each of the others: (N, 4) and (N,) to (N - 1,)."""
    first, rest = boxes[0], boxes[1:]
    sides = np.minimum(first[2:], rest[:, 2:]) - np.maximum(first[:2], rest[:, :2]) + offset
    intersection = np.prod(sides.clip(0), axis=1)
    with np.errstate(invalid='ignore', divide='ignore'):  # 0 / 0 for boxes without area
        return intersection / (areas[0] + areas[1:] - intersection)


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Soft-NMS: lowers the scores of boxes that overlap a better one.

    Args:
        boxes: (N, 4) on the CPU.
        scores: (N,) on the CPU.
        dets: (N, 5), filled with the kept boxes and their new scores, best first.
        iou_threshold: Where ``method`` 0 and 1 begin to lower scores.
        sigma: Of ``method`` 2.
        min_score: Boxes whose score falls below it are dropped.
        method: Factor of a score: 0 for zero, 1 for ``1 - IoU``, 2 for ``exp(-IoU^2 / sigma)``.
        offset: 0 or 1, what is added to widths and heights.

    Returns:
        (K,) indices of the kept boxes in the order of ``dets``.
    """
    boxes, scores = (x.numpy() for x in upcast(boxes.detach(), scores.detach()))
    boxes, scores, order = boxes.copy(), scores.copy(), np.arange(len(boxes))
    areas = np.prod(boxes[:, 2:] - boxes[:, :2] + offset, axis=1)
    arrays, count, i = (boxes, scores, areas, order), len(boxes), 0
    while i < count:
        rest = scores[i:count]
        # A comparison with NaN (two boxes without area) is false: then the first one stays.
        best = i if np.isnan(rest[0]) else i + int(np.nanargmax(rest))
        for array in arrays:
            array[[i, best]] = array[[best, i]]
        overlap = _overlap_with_first(boxes[i:count], areas[i:count], offset)
        if method == 2:
            factor = np.exp(-(overlap**2) / sigma)
        else:
            factor = np.where(overlap >= iou_threshold, 1 - overlap if method == 1 else 0, 1)
        scores[i + 1 : count] *= factor.astype(scores.dtype)
        # As in mmcv's loop, the last box takes the place of a dropped one.
        for dropped in i + 1 + np.flatnonzero(scores[i + 1 : count] < min_score):
            while count > dropped and scores[count - 1] < min_score:
                count -= 1
            if dropped >= count:
                break
            count -= 1
            for array in arrays:
                array[dropped] = array[count]
        i += 1
    kept = np.concatenate([boxes[:count], scores[:count, None]], axis=1)
    dets[:count].copy_(torch.from_numpy(kept))
    return torch.from_numpy(order[:count])


def nms_match(dets: Tensor, iou_threshold: float) -> list[list[int]]:
    """Groups boxes by the one that suppresses them.

    Args:
        dets: (N, 5), boxes and scores, on the CPU.
        iou_threshold: Boxes that overlap a better one by at least this join its group.

    Returns:
        For each kept box its index and those of the boxes it suppresses, by falling score.
    """
    array = upcast(dets.detach())[0].numpy()
    boxes, order = array[:, :4], np.argsort(-array[:, 4], kind='stable')
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    groups = []
    while len(order):
        overlap = _overlap_with_first(boxes[order], areas[order], offset=0)
        suppressed = overlap >= iou_threshold
        groups.append([int(order[0]), *order[1:][suppressed].tolist()])
        order = order[1:][~suppressed]
    return groups


def bbox_overlaps(
    boxes1: Tensor, boxes2: Tensor, ious: Tensor, mode: int, aligned: bool, offset: int
) -> None:
    """Intersection over union, or over the first box.

    Args:
        boxes1: (M, 4).
        boxes2: (N, 4).
        ious: Filled, (M, N), or (M,) if ``aligned``.
        mode: 0 for the union, 1 for the first box.
        aligned: Whether to compare box i with box i only.
        offset: 0 or 1, what is added to widths and heights.
    """
    boxes1, boxes2 = upcast(boxes1, boxes2)
    if not aligned:
        boxes1 = boxes1[:, None]
    sides = torch.minimum(boxes1[..., 2:], boxes2[..., 2:]) - torch.maximum(
        boxes1[..., :2], boxes2[..., :2]
    )
    intersection = (sides + offset).clamp(min=0).prod(-1)
    area1, area2 = ((x[..., 2:] - x[..., :2] + offset).prod(-1) for x in (boxes1, boxes2))
    base = area1 if mode == 1 else area1 + area2 - intersection
    ious.copy_(intersection / base)
