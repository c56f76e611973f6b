"""The operations on a GPU give what they give on the CPU, gradients included."""

import pytest
import torch
from mmcv import ops
from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction
from torch.testing import assert_close

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')

TARGET = torch.tensor([0, 1, 2, 3, 1])
ROIS = torch.tensor([[0, 1.0, 2.0, 7.0, 9.0], [1, -2.0, 1.0, 5.0, 30.0]])
ROTATED = torch.tensor([[0, 4.0, 5.0, 6.0, 4.0, 0.3], [1, 6.0, 5.0, 3.0, 7.0, 2.0]])
BEZIER = torch.tensor([[0, 1.0, 1, 3, 0, 5, 2, 7, 1, 7, 6, 5, 7, 3, 5, 1, 6]])
SHAPES, STARTS = torch.tensor([[3, 4], [2, 2]]), torch.tensor([0, 12])


def rand(*shape):
    return torch.randn(shape)


def attend(value, locations, weights):
    shapes, starts = SHAPES.to(value.device), STARTS.to(value.device)
    return MultiScaleDeformableAttnFunction.apply(value, shapes, starts, locations, weights, 64)


#: Name to function and inputs; floating-point inputs on which gradients are compared come first.
OPERATIONS = {
    'roi_align': (lambda x, r: ops.roi_align(x, r, 3, 0.5, 0), 1, rand(2, 3, 8, 9), ROIS),
    'roi_align max': (
        lambda x, r: ops.roi_align(x, r, 3, 0.5, 0, 'max'),
        1,
        rand(2, 3, 8, 9),
        ROIS,
    ),
    'roi_pool': (lambda x, r: ops.roi_pool(x, r, 3, 0.5), 1, rand(2, 3, 8, 9), ROIS),
    'deform_roi_pool': (
        lambda x, o, r: ops.deform_roi_pool(x, r, o, 2, 0.5, 2),
        2,
        rand(2, 3, 8, 9),
        rand(2, 2, 2, 2),
        ROIS,
    ),
    'prroi_pool': (lambda x, r: ops.prroi_pool(x, r, (2, 3), 0.5), 2, rand(2, 3, 8, 9), ROIS),
    'roi_align_rotated': (
        lambda x, r: ops.roi_align_rotated(x, r, 2, 0.5, 0),
        1,
        rand(2, 3, 8, 9),
        ROTATED,
    ),
    'riroi_align_rotated': (
        lambda x, r: ops.riroi_align_rotated(x, r, 2, 0.5, 2, 4),
        1,
        rand(2, 8, 8, 9),
        ROTATED,
    ),
    'bezier_align': (lambda x, b: ops.bezier_align(x, b, 2), 1, rand(1, 3, 8, 9), BEZIER),
    'border_align': (
        lambda x, b: ops.border_align(x, b, 3),
        1,
        rand(2, 8, 8, 9),
        rand(2, 4, 4).abs() * 3,
    ),
    'sigmoid_focal_loss': (
        lambda x, t: ops.sigmoid_focal_loss(x, t, 2.0, 0.25, None, 'mean'),
        1,
        rand(5, 4),
        TARGET,
    ),
    'softmax_focal_loss': (
        lambda x, t: ops.softmax_focal_loss(x.clone(), t, 2.0, 0.25, None, 'mean'),
        1,
        rand(5, 4),
        TARGET,
    ),
    'ms_deform_attn': (
        attend,
        3,
        rand(2, 16, 2, 3),
        torch.rand(2, 5, 2, 2, 2, 2),
        torch.rand(2, 5, 2, 2, 2),
    ),
    'deform_conv2d': (
        lambda *args: ops.deform_conv2d(*args, 1, 1),
        3,
        rand(2, 4, 6, 5),
        rand(2, 18, 6, 5),
        rand(3, 4, 3, 3),
    ),
    'modulated_deform_conv2d': (
        lambda *args: ops.modulated_deform_conv2d(*args, 1, 1),
        5,
        rand(2, 4, 6, 5),
        rand(2, 18, 6, 5),
        rand(2, 9, 6, 5),
        rand(3, 4, 3, 3),
        rand(3),
    ),
    'carafe': (lambda *args: ops.carafe(*args, 3, 2, 2), 2, rand(2, 4, 3, 5), rand(2, 18, 6, 10)),
    'carafe_naive': (
        lambda *args: ops.carafe_naive(*args, 3, 2, 2),
        0,  # mmcv refuses its gradient on the CPU
        rand(2, 4, 3, 5),
        rand(2, 18, 6, 10),
    ),
    'psa_mask': (ops.PSAMask('collect', (3, 3)), 1, rand(2, 9, 4, 5)),
    'correlation': (ops.Correlation(max_displacement=1), 2, rand(1, 3, 5, 6), rand(1, 3, 5, 6)),
    'rotated_feature_align': (
        lambda x, b: ops.rotated_feature_align(x, b, 0.5, 5),
        1,
        rand(1, 2, 4, 4),
        rand(1, 4, 4, 5).abs(),
    ),
    'box_iou_rotated': (ops.box_iou_rotated, 0, rand(9, 5).abs(), rand(7, 5).abs()),
    'bbox_overlaps': (ops.bbox_overlaps, 0, torch.rand(9, 4), torch.rand(7, 4)),
    'convex_iou': (
        ops.convex_iou,
        0,
        rand(4, 18),
        torch.tensor([[0.0, 0, 1, 0, 1, 1, 0, 1]]),
    ),
}


def run(name, device, dtype):
    function, number, *inputs = OPERATIONS[name]
    inputs = [x.to(device, dtype if x.is_floating_point() else None) for x in inputs]
    for x in inputs[:number]:
        x.requires_grad_()
    out = function(*inputs)
    if not number:
        return [out]
    weight = torch.linspace(-1, 1, out.numel(), device=device).view_as(out)
    (out.float() * weight).sum().backward()
    return [out, *(x.grad for x in inputs[:number])]


@pytest.mark.parametrize('name', OPERATIONS)
def test_the_gpu_gives_what_the_cpu_gives(name):
    actual, expected = (run(name, device, torch.float32) for device in ('cuda', 'cpu'))
    for a, b in zip(actual, expected, strict=True):
        assert_close(a.cpu(), b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('name', ['roi_align', 'modulated_deform_conv2d', 'ms_deform_attn'])
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_on_the_gpu_is_that_on_the_cpu(name, dtype):
    actual, expected = (run(name, device, dtype) for device in ('cuda', 'cpu'))
    for a, b in zip(actual, expected, strict=True):
        assert a.dtype == dtype
        assert_close(a.cpu(), b, rtol=0.05, atol=0.05)


def test_suppression_keeps_the_same_boxes():
    corners = torch.rand(300, 2) * 100
    boxes = torch.cat([corners, corners + torch.rand(300, 2) * 40 + 1], dim=1)
    scores, classes = torch.randperm(300) / 300, torch.arange(300) % 5
    for kind in ('nms', 'soft_nms'):
        cfg = dict(type=kind, iou_threshold=0.4)
        expected = ops.batched_nms(boxes, scores, classes, cfg)
        actual = ops.batched_nms(boxes.cuda(), scores.cuda(), classes.cuda(), cfg)
        assert actual[1].tolist() == expected[1].tolist()
    rotated = torch.cat([boxes / 10, torch.rand(300, 1)], dim=1)[:40]
    actual = ops.nms_rotated(rotated.cuda(), scores[:40].cuda(), 0.4)
    assert actual[1].tolist() == ops.nms_rotated(rotated, scores[:40], 0.4)[1].tolist()
