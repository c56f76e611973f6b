"""Overlaps of rotated boxes, quadrilaterals and point sets, tested against Shapely."""

import math

import pytest
import torch
from mmcv.ops import (
    batched_nms,
    box_iou_quadri,
    box_iou_rotated,
    convex_iou,
    min_area_polygons,
    nms_quadri,
    nms_rotated,
    points_in_polygons,
)
from torch.testing import assert_close

from mmwf.mmcv_ext import rotated_boxes

geometry = pytest.importorskip('shapely.geometry')


def random_boxes(n, dtype=torch.float64):
    """Rotated boxes (n, 5) that often overlap."""
    return torch.rand(n, 5, dtype=dtype) * torch.tensor([10, 10, 8, 8, 7], dtype=dtype)


def polygon(x, y, w, h, angle):
    """The corners by their definition: turned from x towards y."""
    cos, sin = math.cos(angle), math.sin(angle)
    sides = [(a * w / 2, b * h / 2) for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    return geometry.Polygon([(x + u * cos - v * sin, y + u * sin + v * cos) for u, v in sides])


def overlaps(first, second, mode):
    """The table of IoUs, or of shares of the first, of two lists of polygons."""
    return torch.tensor(
        [
            [
                a.intersection(b).area / (a.union(b).area if mode == 'iou' else a.area)
                for b in second
            ]
            for a in first
        ]
    ).double()


def quadrilaterals(polygons):
    return torch.tensor([p.exterior.coords[:4] for p in polygons]).double().flatten(1)


@pytest.mark.parametrize('clockwise', [True, False])
@pytest.mark.parametrize('mode', ['iou', 'iof'])
def test_rotated_iou_is_shapelys(mode, clockwise):
    boxes1, boxes2 = random_boxes(12), random_boxes(15)
    sign = 1 if clockwise else -1
    first, second = (
        [polygon(*box[:4], sign * box[4]) for box in boxes.tolist()] for boxes in (boxes1, boxes2)
    )
    expected = overlaps(first, second, mode)
    assert expected.gt(0).float().mean() > 0.3
    assert_close(box_iou_rotated(boxes1, boxes2, mode, clockwise=clockwise), expected)
    aligned = box_iou_rotated(boxes1, boxes2[:12], mode, aligned=True, clockwise=clockwise)
    assert_close(aligned, expected.diagonal())


@pytest.mark.parametrize('mode', ['iou', 'iof'])
def test_quadrilateral_iou_is_shapelys(mode):
    first, second = (
        [geometry.MultiPoint(x.tolist()).convex_hull for x in torch.rand(30, 4, 2) * 5]
        for _ in range(2)
    )
    first, second = ([p for p in x if len(p.exterior.coords) == 5] for x in (first, second))
    expected = overlaps(first, second, mode)
    assert expected.numel() > 50 and expected.gt(0).any()
    boxes = quadrilaterals(first), quadrilaterals(second)
    assert_close(box_iou_quadri(*boxes, mode), expected)
    reversed_corners = boxes[1].view(-1, 4, 2).flip(1).flatten(1)
    assert_close(box_iou_quadri(boxes[0], reversed_corners, mode), expected)


def test_known_rotated_overlaps():
    # A square of side 2 and itself turned by 45 degrees share a regular octagon.
    square, turned = [0, 0, 2.0, 2.0, 0], [0, 0, 2.0, 2.0, math.pi / 4]
    octagon = 8 * (math.sqrt(2) - 1)
    touching, far, empty = [2, 0, 2.0, 2.0, 0], [9, 9, 1.0, 1.0, 0.3], [0, 0, 0.0, 2.0, 0]
    others = torch.tensor([square, turned, touching, far, empty])
    out = box_iou_rotated(torch.tensor([square]), others)
    assert_close(out, torch.tensor([[1, octagon / (8 - octagon), 0, 0, 0]]))


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16])
def test_equal_boxes_overlap_fully_in_every_precision(dtype):
    boxes = (random_boxes(50) + 0.1).to(dtype)
    out = box_iou_rotated(boxes, boxes, aligned=True)
    assert out.dtype == dtype
    assert_close(out, torch.ones(50, dtype=dtype))


def test_rotated_iou_of_no_boxes_is_empty():
    assert box_iou_rotated(torch.zeros(0, 5), torch.rand(3, 5)).shape == (0, 3)
    assert nms_rotated(torch.zeros(0, 5), torch.zeros(0), 0.5)[1] is None


def greedy(ious, scores, threshold, labels=None):
    kept = []
    for i in scores.argsort(descending=True).tolist():
        rivals = [j for j in kept if labels is None or labels[i] == labels[j]]
        if all(ious[i, j] <= threshold for j in rivals):
            kept.append(i)
    return kept


@pytest.mark.parametrize('labelled', [True, False])
@pytest.mark.parametrize('kind', ['rotated', 'quadri'])
def test_suppression_is_greedy(kind, labelled):
    boxes, scores = random_boxes(30), torch.randperm(30).double() / 30
    polygons = [polygon(*box) for box in boxes.tolist()]
    labels = torch.arange(30) % 2 if labelled else None  # which mmcv's kernels ignore, too
    expected = greedy(overlaps(polygons, polygons, 'iou'), scores, 0.2)
    assert 1 < len(expected) < 30
    function = nms_rotated if kind == 'rotated' else nms_quadri
    dets = boxes if kind == 'rotated' else quadrilaterals(polygons)
    out, keep = function(dets, scores, 0.2, labels)
    assert keep.tolist() == expected
    assert_close(out, torch.cat([dets, scores[:, None]], dim=1)[expected])


def test_batched_nms_takes_rotated_boxes():
    boxes, scores = random_boxes(30), torch.randperm(30).double() / 30
    labels = torch.arange(30) % 3
    polygons = [polygon(*box) for box in boxes.tolist()]
    expected = greedy(overlaps(polygons, polygons, 'iou'), scores, 0.2, labels)
    cfg = dict(type='nms_rotated', iou_threshold=0.2)
    assert batched_nms(boxes, scores, labels, cfg)[1].tolist() == expected


def test_points_are_inside_of_polygons():
    polygons = [polygon(*box) for box in random_boxes(10).tolist()]
    points = torch.rand(40, 2).double() * 10
    inside = [[p.contains(geometry.Point(*point)) for p in polygons] for point in points.tolist()]
    out = points_in_polygons(points, quadrilaterals(polygons))
    assert out.dtype == torch.float32 and out.any()
    assert out.tolist() == torch.tensor(inside).float().tolist()


def test_the_rectangle_of_least_area_contains_the_points():
    points = torch.rand(10, 18) * 8
    for corners, point_set in zip(min_area_polygons(points), points, strict=True):
        rectangle = geometry.Polygon(corners.view(4, 2).tolist())
        expected = geometry.MultiPoint(point_set.view(9, 2).tolist()).minimum_rotated_rectangle
        assert math.isclose(rectangle.area, expected.area, rel_tol=1e-4)
        assert rectangle.intersection(expected).area > 0.999 * expected.area


def test_the_corners_of_an_upright_rectangle_come_in_mmcvs_order():
    points = torch.tensor([[1, 1, 4, 1, 4, 3, 1, 3, 2, 2, 3, 2, 2, 1.5, 3, 1.5, 2.5, 2.5]])
    assert_close(min_area_polygons(points)[0], torch.tensor([4.0, 1, 1, 1, 1, 3, 4, 3]))


def test_convex_iou_is_that_of_the_hull():
    points = torch.rand(6, 18) * 8
    hulls = [geometry.MultiPoint(p.view(9, 2).tolist()).convex_hull for p in points]
    polygons = [polygon(*box) for box in random_boxes(5).tolist()]
    out = convex_iou(points, quadrilaterals(polygons).float())
    assert_close(out, overlaps(hulls, polygons, 'iou').float(), rtol=1e-4, atol=1e-5)


def test_a_log_message_says_once_that_it_is_slow(monkeypatch):
    messages = []
    monkeypatch.setattr(rotated_boxes, 'print_log', lambda text, logger: messages.append(text))
    rotated_boxes._say_slow.cache_clear()
    for _ in range(2):
        box_iou_rotated(random_boxes(2), random_boxes(2))
    assert len(messages) == 1 and 'slower' in messages[0]
