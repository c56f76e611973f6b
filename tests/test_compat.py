"""The replacement of mmcv.ops, tested against the definition of each operation as a loop."""

import importlib
import sys
from importlib.machinery import ModuleSpec

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from mmwf import compat
from mmwf.compat import batched_nms, nms

HAS_COMPILED_OPS = compat.has_compiled_mmcv_ops()


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
    ('args', 'message'),
    [
        ((torch.zeros(3, 5), torch.zeros(3), 0.5), r'\(3, 5\)'),
        ((torch.zeros(3, 4), torch.zeros(2), 0.5), r'\(2,\)'),
        ((torch.zeros(3, 4), torch.zeros(3), 0.5, 2), 'offset 0 or 1, got 2'),
    ],
)
def test_nms_rejects_bad_arguments(args, message):
    with pytest.raises(ValueError, match=message):
        nms(*args)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16])
@pytest.mark.parametrize(
    ('size', 'shift'),
    [(100.0, 0.0), (100.0, -500.0), (100.0, -137.0), (20000.0, 0.0)],  # -137: from -137 to about 0
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


def test_batched_nms_without_boxes_is_empty():
    cfg = dict(type='nms', iou_threshold=0.3)
    dets, keep = batched_nms(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0).long(), cfg)
    assert dets.shape == (0, 5) and keep.shape == (0,)


def test_another_type_of_nms_is_rejected():
    boxes, scores = random_boxes()
    with pytest.raises(ValueError, match="'soft_nms'.*MMCV_WITH_OPS"):
        batched_nms(boxes, scores, torch.zeros(60), dict(type='soft_nms', iou_threshold=0.3))


@pytest.fixture
def no_mmcv_ops(monkeypatch):
    """Simulates a process in which mmcv.ops is neither imported nor replaced."""
    monkeypatch.setattr(sys, 'meta_path', sys.meta_path[:])
    sys.meta_path[:] = [f for f in sys.meta_path if not isinstance(f, compat._OpsFinder)]

    def of_ops():
        return [n for n in sys.modules if n == 'mmcv.ops' or n.startswith('mmcv.ops.')]

    for name in of_ops():
        monkeypatch.delitem(sys.modules, name)
    yield sys.modules
    # Before monkeypatch restores the modules, those imported by the test are removed.
    for name in of_ops():
        del sys.modules[name]


def test_nothing_is_installed_over_compiled_ops(no_mmcv_ops, monkeypatch):
    monkeypatch.setattr(compat, 'has_compiled_mmcv_ops', lambda: True)
    assert compat.install_mmcv_ops() is False
    assert 'mmcv.ops' not in no_mmcv_ops


def test_nothing_is_installed_over_imported_ops(no_mmcv_ops, monkeypatch):
    monkeypatch.setitem(no_mmcv_ops, 'mmcv.ops', 'theirs')
    assert compat.install_mmcv_ops() is False
    assert no_mmcv_ops['mmcv.ops'] == 'theirs'


def test_the_replacement_is_installed_once(no_mmcv_ops, monkeypatch):
    monkeypatch.setattr(compat, 'has_compiled_mmcv_ops', lambda: False)
    assert compat.install_mmcv_ops() is True
    finders = len(sys.meta_path)
    assert compat.install_mmcv_ops() is True
    assert len(sys.meta_path) == finders
    ops = importlib.import_module('mmcv.ops')
    assert ops.nms is nms
    assert importlib.import_module('mmcv.ops.nms').batched_nms is batched_nms
    assert ops.nms is nms  # not the submodule of that name


@pytest.mark.skipif(HAS_COMPILED_OPS, reason='mmcv has its compiled ops, so nothing is replaced')
def test_the_replacement_is_an_attribute_of_mmcv_too(run_python):
    result = run_python(
        'import mmwf, mmcv.ops, importlib.util\n'
        "print(mmcv.ops.nms.__module__, importlib.util.find_spec('mmcv.ops').name)"
    )
    assert result.stdout.split() == ['mmwf.compat', 'mmcv.ops'], result.stderr


@pytest.mark.parametrize(
    ('files', 'expected'),
    [(['__init__.py'], False), (['__init__.py', '_ext.cpython-311-x86_64-linux-gnu.so'], True)],
)
def test_compiled_ops_are_recognised_by_their_file(tmp_path, monkeypatch, files, expected):
    (tmp_path / 'mmcv').mkdir()
    for name in files:
        (tmp_path / 'mmcv' / name).touch()
    spec = ModuleSpec('mmcv', None, is_package=True)
    spec.submodule_search_locations.append(str(tmp_path / 'mmcv'))
    monkeypatch.setattr(compat.importlib.util, 'find_spec', lambda name: spec)
    assert compat.has_compiled_mmcv_ops() is expected


def test_no_mmcv_has_no_compiled_ops(monkeypatch):
    monkeypatch.setattr(compat.importlib.util, 'find_spec', lambda name: None)
    assert compat.has_compiled_mmcv_ops() is False


@pytest.mark.skipif(HAS_COMPILED_OPS, reason='mmcv has its compiled ops, so nothing is replaced')
def test_other_operations_can_be_imported_but_not_used():
    from mmcv.ops import DeformConv2d
    from mmcv.ops.carafe import CARAFEPack

    class Subclass(DeformConv2d):
        pass

    assert not isinstance(nn.Linear(1, 1), (DeformConv2d, CARAFEPack))
    for unavailable in (DeformConv2d, Subclass):
        with pytest.raises(RuntimeError, match='mmcv.ops.DeformConv2d.*MMCV_WITH_OPS=1 pip'):
            unavailable(3, 3, kernel_size=3)


@pytest.mark.skipif(HAS_COMPILED_OPS, reason='mmcv has its compiled ops, so nothing is replaced')
def test_private_names_are_not_provided():
    from mmcv import ops

    with pytest.raises(AttributeError, match="'mmcv.ops' has no attribute '_ext'"):
        ops._ext  # noqa: B018
