"""Overlaps and non-maximum suppression, tested against their definitions as loops."""

import math

import numpy as np
import pytest
import torch
from mmcv.ops import batched_nms, bbox_overlaps, nms, nms_match, soft_nms
from torch.testing import assert_close


def random_boxes(n=60, size=100.0, shift=0.0):
    corners = torch.rand(n, 2, dtype=torch.float64) * size + shift
    sides = torch.rand(n, 2, dtype=torch.float64) * size * 0.4 + 2
    boxes = torch.cat([corners, corners + sides], dim=1).float()
    scores = torch.randperm(n).float() / n + 0.001  # no ties
    return boxes, scores


def iou(a, b, offset):
    """Intersection over union of two boxes as lists of numbers."""
    width = min(a[2], b[2]) - max(a[0], b[0]) + offset
    height = min(a[3], b[3]) - max(a[1], b[1]) + offset
    intersection = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0] + offset) * (box[3] - box[1] + offset) for box in (a, b)]
    return intersection / (sum(areas) - intersection)


def greedy_nms(boxes, scores, threshold, offset=0, classes=None):
    """The definition: a box is kept unless it overlaps a better kept box (of its class)."""
    boxes, order = boxes.tolist(), scores.argsort(descending=True).tolist()
    kept = []
    for i in order:
        rivals = [j for j in kept if classes is None or classes[i] == classes[j]]
        if all(iou(boxes[i], boxes[j], offset) <= threshold for j in rivals):
            kept.append(i)
    return kept


@pytest.mark.parametrize('threshold', [0.1, 0.5, 0.9])
@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('size', [4.0, 100.0])  # for small boxes, an offset of 1 matters
def test_nms_is_greedy_suppression(threshold, offset, size):
    boxes, scores = random_boxes(size=size)
    expected = greedy_nms(boxes, scores, threshold, offset)
    assert len(expected) > 1
    dets, keep = nms(boxes, scores, threshold, offset=offset)
    assert keep.tolist() == expected
    assert_close(dets, torch.cat([boxes, scores[:, None]], dim=1)[expected])


def test_offset_changes_what_is_kept():
    boxes, scores = random_boxes(size=4.0)
    kept = [greedy_nms(boxes, scores, 0.5, offset) for offset in (0, 1)]
    assert kept[0] != kept[1]


def test_nms_stops_at_max_num_and_score_threshold():
    boxes, scores = random_boxes()
    expected = greedy_nms(boxes, scores, 0.3)
    assert len(expected) > 10
    assert nms(boxes, scores, 0.3, max_num=5)[1].tolist() == expected[:5]
    above = [i for i in expected if scores[i] > 0.6]
    assert 0 < len(above) < len(expected)
    assert nms(boxes, scores, 0.3, score_threshold=0.6)[1].tolist() == above
    assert nms(boxes, scores, 0.3, max_num=2, score_threshold=0.6)[1].tolist() == above[:2]


def test_nms_maps_numpy_to_numpy():
    boxes, scores = random_boxes()
    dets, keep = nms(boxes.numpy(), scores.numpy(), 0.5, max_num=7)
    assert isinstance(dets, np.ndarray) and isinstance(keep, np.ndarray)
    expected_dets, expected_keep = nms(boxes, scores, 0.5, max_num=7)
    assert np.array_equal(dets, expected_dets.numpy())
    assert np.array_equal(keep, expected_keep.numpy())


def test_nms_without_boxes_is_empty():
    dets, keep = nms(torch.zeros(0, 4), torch.zeros(0), 0.5)
    assert dets.shape == (0, 5) and keep.shape == (0,) and keep.dtype == torch.long


@pytest.mark.parametrize('dtype', [torch.float16, torch.float64])
def test_nms_keeps_the_precision(dtype):
    boxes, scores = (x.to(dtype) for x in random_boxes())
    dets, keep = nms(boxes, scores, 0.5)
    assert dets.dtype == dtype
    assert keep.tolist() == greedy_nms(boxes.double(), scores.double(), 0.5)


def test_offset_survives_half_precision():
    # In fp16 3004 + 1 is 3004 and 3008 + 1 is 3008.
    boxes = torch.tensor([[3000, 3000, 3004, 3004], [3000, 3000, 3008, 3008]]).half()
    scores = torch.tensor([0.9, 0.8]).half()
    assert iou(*boxes.tolist(), offset=0) < 0.28 < iou(*boxes.tolist(), offset=1)
    assert nms(boxes, scores, 0.28, offset=0)[1].tolist() == [0, 1]
    assert nms(boxes, scores, 0.28, offset=1)[1].tolist() == [0]


@pytest.mark.parametrize(
    ('boxes', 'scores', 'offset'),
    [((3, 5), 3, 0), ((3, 4), 2, 0), ((3, 4), 3, 2)],
)
def test_nms_rejects_bad_arguments(boxes, scores, offset):
    with pytest.raises(AssertionError):
        nms(torch.zeros(boxes), torch.zeros(scores), 0.5, offset)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_nms_runs_under_autocast(dtype):
    boxes, scores = random_boxes()
    expected = greedy_nms(boxes, scores.to(dtype).float(), 0.3)
    with torch.autocast('cpu', dtype):
        dets, keep = nms(boxes, scores, 0.3)
        assert nms(boxes, scores.to(dtype), 0.3)[1].sort()[0].tolist() == sorted(expected)
    assert keep.tolist() == greedy_nms(boxes, scores, 0.3)
    assert dets.dtype == torch.float32


#: mmcv moves class c by ``c * (boxes.max() + 1)``, in the boxes' type.
BY_MMCV = pytest.mark.xfail(
    strict=True, reason="mmcv's batched_nms lets classes overlap: half precision, or a maximum < 1"
)


@pytest.mark.parametrize(
    ('size', 'shift', 'dtype'),
    [
        (100.0, 0.0, torch.float32),
        (100.0, -500.0, torch.float32),
        (20000.0, 0.0, torch.float32),
        pytest.param(100.0, -137.0, torch.float32, marks=BY_MMCV),  # from -137 to about 0
        pytest.param(100.0, 0.0, torch.float16, marks=BY_MMCV),
    ],
)
def test_batched_nms_suppresses_within_a_class(size, shift, dtype):
    boxes, scores = (x.to(dtype) for x in random_boxes(120, size, shift))
    classes = torch.randint(75, 80, (120,))
    expected = greedy_nms(boxes, scores, 0.3, classes=classes.tolist())
    assert len(greedy_nms(boxes, scores, 0.3)) < len(expected) < 120
    dets, keep = batched_nms(boxes, scores, classes, dict(type='nms', iou_threshold=0.3))
    assert keep.tolist() == expected
    assert_close(dets, torch.cat([boxes, scores[:, None]], dim=1)[expected], rtol=0, atol=0)


@pytest.mark.parametrize('side', [1.0, 2.0, 100.0])
@pytest.mark.parametrize('offset', [0, 1])
def test_batched_nms_keeps_one_box_in_every_class(side, offset):
    boxes, scores = torch.tensor([[0, 0, side, side]]).repeat(3, 1), torch.tensor([0.9, 0.8, 0.7])
    cfg = dict(type='nms', iou_threshold=0.1, offset=offset)
    assert batched_nms(boxes, scores, torch.arange(3), cfg)[1].tolist() == [0, 1, 2]


@pytest.mark.parametrize('in_config', [True, False])
def test_class_agnostic_nms_ignores_the_classes(in_config):
    boxes, scores = random_boxes()
    cfg = dict(type='nms', iou_threshold=0.3, **(dict(class_agnostic=True) if in_config else {}))
    before = dict(cfg)
    _, keep = batched_nms(boxes, scores, torch.arange(60), cfg, class_agnostic=not in_config)
    assert keep.tolist() == greedy_nms(boxes, scores, 0.3)
    assert cfg == before


def test_batched_nms_forwards_its_options():
    boxes, scores = random_boxes()
    classes = torch.arange(60) % 2
    cfg = dict(type='nms', iou_threshold=0.3, max_num=4, split_thr=10, score_threshold=0.1)
    _, keep = batched_nms(boxes, scores, classes, cfg)
    assert keep.tolist() == greedy_nms(boxes, scores, 0.3, classes=classes.tolist())[:4]


def test_batched_nms_without_a_config_only_sorts():
    boxes, scores = random_boxes()
    dets, keep = batched_nms(boxes, scores, torch.zeros(60), None)
    assert keep.tolist() == scores.argsort(descending=True).tolist()
    assert_close(dets[:, :4], boxes[keep])


def test_class_agnostic_nms_without_boxes_is_empty():
    cfg = dict(type='nms', iou_threshold=0.3, class_agnostic=True)
    dets, keep = batched_nms(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0).long(), cfg)
    assert dets.shape == (0, 5) and keep.shape == (0,)


def soft_nms_loop(boxes, scores, factor, min_score):
    """The definition: take the best box, lower the scores of the others, drop low ones."""
    left = dict(enumerate(scores.tolist()))
    kept = []
    while left:
        best = max(left, key=left.get)
        kept.append((best, left.pop(best)))
        for i in list(left):
            left[i] *= factor(iou(boxes[best].tolist(), boxes[i].tolist(), 0))
            if left[i] < min_score:
                del left[i]
    return kept


@pytest.mark.parametrize('min_score', [0.001, 0.3])
@pytest.mark.parametrize(
    ('method', 'factor'),
    [
        ('naive', lambda iou: float(iou < 0.3)),
        ('linear', lambda iou: 1 - iou if iou >= 0.3 else 1),
        ('gaussian', lambda iou: math.exp(-(iou**2) / 0.5)),
    ],
)
def test_soft_nms_lowers_the_scores_of_overlapping_boxes(method, factor, min_score):
    boxes, scores = random_boxes()
    expected = soft_nms_loop(boxes, scores, factor, min_score)
    assert len(expected) > 5
    dets, keep = soft_nms(boxes, scores, 0.3, sigma=0.5, min_score=min_score, method=method)
    assert keep.tolist() == [i for i, _ in expected]
    assert_close(dets[:, 4], torch.tensor([score for _, score in expected]))
    assert_close(dets[:, :4], boxes[keep])


def test_soft_nms_of_boxes_without_area_keeps_those_above_the_threshold():
    boxes = np.array([[4, 3, 5, 3], [4, 3, 5, 4], *[[3, 1, 3, 1]] * 4], dtype=np.float32)
    scores = np.array([0.9, 0.9, 0.5, 0.5, 0.4, 0.0], dtype=np.float32)
    dets, keep = soft_nms(boxes, scores, iou_threshold=0.6, sigma=0.5)
    assert isinstance(dets, np.ndarray) and keep.tolist() == [0, 1, 2, 3, 4]
    assert np.array_equal(dets[:, 4], scores[:5])


def test_soft_nms_without_boxes_is_empty():
    dets, keep = soft_nms(torch.zeros(0, 4), torch.zeros(0))
    assert dets.shape == (0, 5) and keep.tolist() == []


def test_batched_nms_takes_soft_nms():
    boxes, scores = random_boxes()
    cfg = dict(type='soft_nms', iou_threshold=0.3, min_score=0.05)
    dets, keep = batched_nms(boxes, scores, torch.zeros(60), cfg)
    expected_dets, expected_keep = soft_nms(boxes, scores, 0.3, min_score=0.05)
    assert keep.tolist() == expected_keep.tolist()
    assert_close(dets, expected_dets)


@pytest.mark.parametrize('threshold', [0.2, 0.6])
def test_nms_match_groups_boxes_by_the_one_that_suppresses_them(threshold):
    boxes, scores = random_boxes()
    dets = torch.cat([boxes, scores[:, None]], dim=1)
    order, expected = scores.argsort(descending=True).tolist(), []
    while order:
        best, *rest = order
        near = [i for i in rest if iou(*boxes[[best, i]].tolist(), 0) >= threshold]
        expected.append([best, *near])
        order = [i for i in rest if i not in near]
    assert max(map(len, expected)) > 1
    assert [x.tolist() for x in nms_match(dets, threshold)] == expected
    assert [x.tolist() for x in nms_match(dets.numpy(), threshold)] == expected


def test_nms_match_without_boxes_is_empty():
    assert nms_match(torch.zeros(0, 5), 0.5) == []


@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('mode', ['iou', 'iof'])
def test_bbox_overlaps_is_intersection_over_union_or_over_the_first_box(mode, offset):
    (boxes1, _), (boxes2, _) = random_boxes(7), random_boxes(7)
    expected = torch.zeros(7, 7)
    for i, a in enumerate(boxes1.tolist()):
        for j, b in enumerate(boxes2.tolist()):
            union = sum((x[2] - x[0] + offset) * (x[3] - x[1] + offset) for x in (a, b))
            intersection = iou(a, b, offset) * union / (1 + iou(a, b, offset))
            area = (a[2] - a[0] + offset) * (a[3] - a[1] + offset)
            expected[i, j] = iou(a, b, offset) if mode == 'iou' else intersection / area
    assert_close(bbox_overlaps(boxes1, boxes2, mode, offset=offset), expected)
    aligned = bbox_overlaps(boxes1, boxes2, mode, aligned=True, offset=offset)
    assert_close(aligned, expected.diagonal())


def test_bbox_overlaps_of_no_boxes_is_empty():
    empty, boxes = torch.zeros(0, 4), torch.rand(3, 4)
    assert bbox_overlaps(empty, boxes).shape == (0, 3)
    assert bbox_overlaps(boxes, empty).shape == (3, 0)


@pytest.mark.parametrize('dtype', [torch.float64, torch.float16, torch.bfloat16])
def test_bbox_overlaps_keeps_the_precision(dtype):
    boxes = random_boxes(9)[0].to(dtype)
    out = bbox_overlaps(boxes, boxes)
    assert out.dtype == dtype
    assert_close(out, bbox_overlaps(boxes.double(), boxes.double()).to(dtype))
