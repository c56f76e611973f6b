"""Predictions and ground truths of all libraries in one form."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from mmengine.structures import BaseDataElement
from pycocotools import mask as rle

#: mmdet numbers the segments of a panoptic map as class + 1000 * instance; instances of things
#: count from 1, and stuff has none.
INSTANCE_OFFSET = 1000


@dataclass(frozen=True)
class Classes:
    """The classes of a model.

    Attributes:
        names: Their names, perhaps none.
        palette: Their colours, RGB from 0 to 255, perhaps none.
    """

    names: Sequence[str] = ()
    palette: Sequence[Sequence[int]] = ()

    @classmethod
    def from_meta(cls, meta: dict) -> 'Classes':
        """Returns the classes of a dataset, from its ``metainfo``."""
        names, palette = meta.get('classes') or (), meta.get('palette') or ()
        # mmdet's palette may be a name, or that of COCO for the classes of another dataset.
        is_theirs = not isinstance(palette, str) and len(palette) == len(names)
        return cls(names, palette if is_theirs else ())

    def name(self, label: int) -> str:
        """Returns the name of a class, or ``'class LABEL'``."""
        return str(self.names[label]) if label < len(self.names) else f'class {label}'


@dataclass
class Prediction:
    """What a model says about a picture, or its ground truth; fields of other tasks are None.

    Attributes:
        labels: Classes of the picture, the most likely first, or of the objects, (N,).
        scores: Their scores, (N,); None in a ground truth.
        boxes: Boxes of the objects, (N, 4), as x1, y1, x2, y2 in pixels.
        masks: Masks of the objects as run lengths of pycocotools, which know their size.
        class_map: Class of each pixel, (height, width).
        logits: Scores of the classes in each pixel, (classes, height, width), if asked for.
        depth: Depth of each pixel in metres, (height, width); 0 is unknown.
        segment_map: Segment of each pixel, (height, width); 0 is none.
        segments: For each segment its ``id``, ``label``, ``is_thing`` and ``area`` in pixels.
        best_score: The best score of an object, before a threshold; None without objects.
    """

    labels: np.ndarray | None = None
    scores: np.ndarray | None = None
    boxes: np.ndarray | None = None
    masks: list[dict] | None = None
    class_map: np.ndarray | None = None
    logits: np.ndarray | None = None
    depth: np.ndarray | None = None
    segment_map: np.ndarray | None = None
    segments: list[dict] = field(default_factory=list)
    best_score: float | None = None


def _array(value) -> np.ndarray:
    """Returns a tensor, or boxes of mmdet, as an array."""
    value = getattr(value, 'tensor', value)
    return value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)


def encode_masks(masks) -> list[dict]:
    """Encodes masks, (N, height, width), as run lengths."""
    masks = masks.to_ndarray() if hasattr(masks, 'to_ndarray') else _array(masks)  # mmdet's
    return [rle.encode(np.asfortranarray(mask, dtype=np.uint8)) for mask in masks]


def _objects(instances: BaseDataElement, score_thr: float) -> Prediction:
    labels, boxes = _array(instances.labels), _array(instances.bboxes).reshape(-1, 4)
    scores, best, kept = None, None, np.arange(len(labels))
    if 'scores' in instances:
        scores = _array(instances.scores)
        best = float(scores.max()) if len(scores) else None
        kept = np.flatnonzero(scores >= score_thr)
        kept = kept[np.argsort(-scores[kept], kind='stable')]
        scores = scores[kept]
    masks = encode_masks(instances.masks[kept]) if 'masks' in instances else None
    return Prediction(labels[kept], scores, boxes[kept], masks, best_score=best)


def _panoptic(ids: np.ndarray, num_classes: int) -> Prediction:
    """Numbers the segments of mmdet's panoptic map from 1, the largest first."""
    found, areas = np.unique(ids, return_counts=True)
    segment_map, segments = np.zeros(ids.shape, np.int32), []
    for i in np.argsort(-areas, kind='stable'):
        label = int(found[i] % INSTANCE_OFFSET)
        # Pixels without a segment; mmdet's metric sets them to 0, since class 0 is a thing.
        if label >= num_classes or found[i] == 0:
            continue
        number = len(segments) + 1
        segment_map[ids == found[i]] = number
        is_thing = bool(found[i] >= INSTANCE_OFFSET)
        segments.append(dict(id=number, label=label, is_thing=is_thing, area=int(areas[i])))
    return Prediction(segment_map=segment_map, segments=segments)


def read_prediction(
    sample: BaseDataElement,
    *,
    num_classes: int = 0,
    score_thr: float = 0.0,
    top: int = 5,
    with_logits: bool = False,
) -> Prediction:
    """Returns what a model predicted.

    Args:
        sample: A data sample of mmpretrain, mmdet or mmseg with predictions.
        num_classes: Number of classes, for panoptic segmentation.
        score_thr: Smallest score of an object that is kept.
        top: Number of classes of a picture.
        with_logits: Whether to keep the logits of semantic segmentation.

    Raises:
        ValueError: If the sample has no prediction of a known kind.
    """
    if 'pred_panoptic_seg' in sample:
        return _panoptic(_array(sample.pred_panoptic_seg.sem_seg)[0], num_classes)
    if 'pred_instances' in sample:
        return _objects(sample.pred_instances, score_thr)
    if 'pred_sem_seg' in sample:
        logits = _array(sample.seg_logits.data.float()) if with_logits else None
        class_map = _array(sample.pred_sem_seg.data)[0].astype(np.int64)
        return Prediction(class_map=class_map, logits=logits)
    if 'pred_depth_map' in sample:
        return Prediction(depth=_array(sample.pred_depth_map.data).astype(np.float32)[0])
    if 'pred_score' in sample:
        scores = _array(sample.pred_score.float())
        labels = np.argsort(-scores, kind='stable')[:top]
        return Prediction(labels, scores[labels])
    raise ValueError(f'Expected a sample with a prediction, got {sample.all_keys()}.')


def read_ground_truth(sample: BaseDataElement) -> Prediction | None:
    """Returns the ground truth of a test sample, or None if it has none."""
    if 'pred_panoptic_seg' in sample:
        return None  # the metric reads it from files
    if 'gt_label' in sample:
        return Prediction(_array(sample.gt_label).reshape(-1))
    if 'gt_sem_seg' in sample:
        return Prediction(class_map=_array(sample.gt_sem_seg.data)[0])
    if 'gt_depth_map' in sample:
        return Prediction(depth=_array(sample.gt_depth_map.data)[0])
    if 'gt_instances' in sample and 'labels' in sample.gt_instances:
        return _objects(sample.gt_instances, 0)
    return None
