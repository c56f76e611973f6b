"""Large pictures in tiles."""

import numpy as np
import pytest
from pycocotools import mask as rle

from mmwf.apis.tiles import TileMean, find_tiles, merge_objects
from mmwf.evaluation.predictions import Prediction, encode_masks

SHAPES = [(100, 40), (64, 64), (65, 64), (200, 131), (10, 300)]


@pytest.mark.parametrize(('height', 'width'), SHAPES)
@pytest.mark.parametrize('overlap', [0, 16, 63])
def test_tiles_of_one_shape_cover_the_picture_and_overlap(height, width, overlap):
    tiles = find_tiles(height, width, 64, overlap)
    covered = np.zeros((height, width), int)
    for top, left, bottom, right in tiles:
        assert (bottom - top, right - left) == (min(64, height), min(64, width))
        covered[top:bottom, left:right] += 1
    assert covered.min() >= 1
    for edges in ({(t[0], t[2]) for t in tiles}, {(t[1], t[3]) for t in tiles}):
        edges = sorted(edges)
        assert all(b[0] <= a[1] - overlap for a, b in zip(edges, edges[1:], strict=False))


@pytest.mark.parametrize(('height', 'width'), SHAPES)
def test_the_mean_is_that_of_all_tiles(height, width):
    rng, tiles = np.random.default_rng(0), find_tiles(height, width, 64, 20)
    mean = TileMean(width, lambda values: values.argmax(0))
    total, count = np.zeros((3, height, width)), np.zeros((height, width))
    for top, left, bottom, right in tiles:
        values = rng.normal(size=(3, bottom - top, right - left))
        mean.add((top, left, bottom, right), values)
        total[:, top:bottom, left:right] += values
        count[top:bottom, left:right] += 1
    assert np.array_equal(mean.result(), (total / count).argmax(0))


def objects(*rows, size=64):
    """Objects (x1, y1, x2, y2, label, score) of a tile, with their boxes as masks."""
    rows = np.array(rows, dtype=float).reshape(-1, 6)
    masks = np.zeros((len(rows), size, size), np.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, rows[:, :4].astype(int), strict=True):
        mask[y1:y2, x1:x2] = 1
    labels, scores = rows[:, 4].astype(int), rows[:, 5]
    best = scores.max() if len(scores) else None
    return Prediction(labels, scores, rows[:, :4], encode_masks(masks), best_score=best)


TILES = [(0, 0, 64, 64), (0, 44, 64, 108)]  # 20 pixels are in both


def merge(*predictions):
    return merge_objects(predictions, TILES, 64, 108, 0.5)


def test_an_object_in_the_overlap_remains_once_with_its_mask_in_place():
    merged = merge(objects((48, 10, 58, 30, 1, 0.8)), objects((4, 10, 14, 30, 1, 0.9)))
    assert merged.boxes.tolist() == [[48, 10, 58, 30]] and merged.scores.tolist() == [0.9]
    expected = np.zeros((64, 108), np.uint8)
    expected[10:30, 48:58] = 1
    assert np.array_equal(rle.decode(merged.masks[0]), expected)
    assert merged.best_score == 0.9


def test_a_part_that_a_tile_cuts_off_gives_way_to_the_whole_object():
    part, whole = (50, 10, 64, 30, 1, 0.9), (6, 10, 40, 30, 1, 0.5)  # IoU 0.41
    merged = merge(objects(part), objects(whole))
    assert merged.boxes.tolist() == [[50, 10, 84, 30]] and merged.scores.tolist() == [0.5]


def test_other_classes_other_places_and_neighbours_in_one_tile_remain():
    first = objects((48, 10, 58, 30, 1, 0.8), (49, 10, 59, 30, 1, 0.7), (2, 2, 9, 9, 1, 0.6))
    second = objects((4, 10, 14, 30, 2, 0.9), (50, 40, 60, 60, 1, 0.95))
    assert merge(first, second).scores.tolist() == [0.95, 0.9, 0.8, 0.7, 0.6]


def test_an_edge_of_the_picture_cuts_nothing():
    whole = (54, 0, 64, 20, 1, 0.9)  # at the right edge of the second tile and at the top
    merged = merge(objects((0, 0, 10, 20, 1, 0.8)), objects(whole))
    assert merged.boxes.tolist() == [[98, 0, 108, 20], [0, 0, 10, 20]]


def test_tiles_without_objects_give_none():
    merged = merge(objects(), objects())
    assert merged.boxes.shape == (0, 4) and merged.masks == [] and merged.best_score is None
