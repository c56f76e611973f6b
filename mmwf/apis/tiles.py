"""Large pictures in overlapping tiles: where they are, and how their predictions are merged."""

import math
from collections.abc import Callable, Sequence

import numpy as np
from pycocotools import mask as rle

from mmwf.evaluation.predictions import Prediction, encode_masks

#: Top, left, bottom and right of a tile in pixels.
Tile = tuple[int, int, int, int]


def _starts(length: int, size: int, overlap: int) -> list[int]:
    if length <= size:
        return [0]
    count = math.ceil((length - size) / (size - overlap)) + 1
    return [min(i * (size - overlap), length - size) for i in range(count)]


def find_tiles(height: int, width: int, size: int, overlap: int) -> list[Tile]:
    """Covers a picture with tiles of one shape, row by row.

    Args:
        height, width: Size of the picture in pixels.
        size: Side of a tile; a shorter side of the picture is not cut.
        overlap: Pixels that neighbours have in common at least.
    """
    return [
        (y, x, min(y + size, height), min(x + size, width))
        for y in _starts(height, size, overlap)
        for x in _starts(width, size, overlap)
    ]


class TileMean:
    """The mean of maps that overlap, reduced as soon as a row of pixels is complete.

    Only the rows of one row of tiles are in memory.

    Args:
        width: Width of the picture in pixels.
        reduce: Maps the mean, (C, rows, width), to the result, (rows, width).
    """

    def __init__(self, width: int, reduce: Callable[[np.ndarray], np.ndarray]):
        self.width, self.reduce = width, reduce
        self.top, self.done = 0, []
        self.sum = self.count = None

    def _finish(self, rows: int) -> None:
        self.done.append(self.reduce(self.sum[:, :rows] / self.count[:rows]))
        self.sum, self.count = self.sum[:, rows:], self.count[rows:]
        self.top += rows

    def add(self, tile: Tile, values: np.ndarray) -> None:
        """Adds the map of a tile, (C, height, width); tiles come in the order of find_tiles."""
        top, left, bottom, right = tile
        if self.sum is None:
            self.sum = np.zeros((len(values), 0, self.width), np.float32)
            self.count = np.zeros((0, self.width), np.float32)
        if top > self.top:
            self._finish(top - self.top)
        missing = bottom - self.top - self.sum.shape[1]
        if missing > 0:
            self.sum = np.pad(self.sum, ((0, 0), (0, missing), (0, 0)))
            self.count = np.pad(self.count, ((0, missing), (0, 0)))
        rows = slice(top - self.top, bottom - self.top)
        self.sum[:, rows, left:right] += values
        self.count[rows, left:right] += 1

    def result(self) -> np.ndarray:
        """Returns the map of the picture, (height, width)."""
        self._finish(self.sum.shape[1])
        return np.concatenate(self.done)


def _is_cut(boxes: np.ndarray, tile: Tile, height: int, width: int) -> np.ndarray:
    """Returns which boxes touch an edge of their tile that is not one of the picture, (N,)."""
    top, left, bottom, right = tile
    x1, y1, x2, y2 = boxes.T
    inside = [top > 0, left > 0, bottom < height, right < width]
    touches = [y1 <= top + 1, x1 <= left + 1, y2 >= bottom - 1, x2 >= right - 1]
    return np.any([edge & touch for edge, touch in zip(inside, touches, strict=True)], axis=0)


def _suppress(
    boxes: np.ndarray, labels: np.ndarray, owners: np.ndarray, cut: np.ndarray, threshold: float
) -> np.ndarray:
    """Returns the indices of the boxes that remain; earlier boxes come first.

    A box is removed by an earlier one of its class from another tile if they overlap: whole boxes
    by their intersection over union, a box that its tile cuts by its share inside the other one.
    """
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    removed, kept = np.zeros(len(boxes), bool), []
    for i in range(len(boxes)):
        if removed[i]:
            continue
        kept.append(i)
        low, high = np.maximum(boxes[i, :2], boxes[:, :2]), np.minimum(boxes[i, 2:], boxes[:, 2:])
        common = np.prod(np.clip(high - low, 0, None), axis=1)
        whole = np.where(cut, areas, areas + areas[i] - common)
        overlaps = common > threshold * np.maximum(whole, 1e-9)
        removed |= overlaps & (labels == labels[i]) & (owners != owners[i])
    return np.array(kept, dtype=np.int64)


def merge_objects(
    predictions: Sequence[Prediction],
    tiles: Sequence[Tile],
    height: int,
    width: int,
    threshold: float,
) -> Prediction:
    """Merges the objects in the tiles of a picture by class-wise non-maximum suppression.

    An object in the overlap of tiles is found in each of them. Boxes that a tile does not cut go
    first, then those with higher scores (see :func:`_suppress`). An object larger than the overlap
    may remain in parts.

    Args:
        predictions: The objects in each tile.
        tiles: The tiles.
        height, width: Size of the picture in pixels.
        threshold: Overlap from which one of two boxes is removed.
    """
    boxes = [p.boxes + np.array([t[1], t[0]] * 2) for p, t in zip(predictions, tiles, strict=True)]
    cut = np.concatenate(
        [_is_cut(b, tile, height, width) for b, tile in zip(boxes, tiles, strict=True)]
    )
    owners = np.repeat(np.arange(len(boxes)), [len(b) for b in boxes])
    places = np.concatenate([np.arange(len(b)) for b in boxes])
    boxes = np.concatenate(boxes)
    labels = np.concatenate([p.labels for p in predictions])
    scores = np.concatenate([p.scores for p in predictions])
    order = np.lexsort((-scores, cut))
    kept = order[_suppress(*(values[order] for values in (boxes, labels, owners, cut)), threshold)]
    kept = kept[np.argsort(-scores[kept], kind='stable')]
    masks = None
    if predictions[0].masks is not None:
        masks = []
        for i in kept:
            top, left, bottom, right = tiles[owners[i]]
            mask = np.zeros((height, width), np.uint8)
            mask[top:bottom, left:right] = rle.decode(predictions[owners[i]].masks[places[i]])
            masks += encode_masks(mask[None])
    best = [p.best_score for p in predictions if p.best_score is not None]
    best_score = max(best, default=None)
    return Prediction(labels[kept], scores[kept], boxes[kept], masks, best_score=best_score)
