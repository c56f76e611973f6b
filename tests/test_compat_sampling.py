"""RoIAlign and point sampling, tested against bilinear interpolation as a loop."""

import math

import pytest
import torch
from torch.testing import assert_close

from mmwf import compat
from mmwf.compat import RoIAlign, point_sample, roi_align

HAS_COMPILED_OPS = compat.has_compiled_mmcv_ops()


def interpolate(image, y, x):
    """RoIAlign's bilinear sample of (C, H, W): clamped, and zero beyond one pixel outside."""
    _, h, w = image.shape
    if y < -1 or y > h or x < -1 or x > w:
        return torch.zeros_like(image[:, 0, 0])
    y, x = min(max(y, 0), h - 1), min(max(x, 0), w - 1)
    y0, x0 = min(int(y), h - 2), min(int(x), w - 2)
    dy, dx = y - y0, x - x0
    top = (1 - dx) * image[:, y0, x0] + dx * image[:, y0, x0 + 1]
    bottom = (1 - dx) * image[:, y0 + 1, x0] + dx * image[:, y0 + 1, x0 + 1]
    return (1 - dy) * top + dy * bottom


def roi_align_loop(features, rois, size, scale, sampling_ratio, aligned):
    outs = []
    for roi in rois:
        x1, y1, x2, y2 = (roi[1:] * scale - 0.5 * aligned).tolist()
        width, height = x2 - x1, y2 - y1
        if not aligned:
            width, height = max(width, 1), max(height, 1)
        bin_h, bin_w = height / size[0], width / size[1]
        rows = sampling_ratio or math.ceil(bin_h)
        columns = sampling_ratio or math.ceil(bin_w)
        cells = [
            torch.stack(
                [
                    interpolate(
                        features[int(roi[0])],
                        y1 + (i + (a + 0.5) / rows) * bin_h,
                        x1 + (j + (b + 0.5) / columns) * bin_w,
                    )
                    for a in range(rows)
                    for b in range(columns)
                ]
            ).mean(0)
            for i in range(size[0])
            for j in range(size[1])
        ]
        outs.append(torch.stack(cells, dim=1).view(-1, *size))
    return torch.stack(outs)


ROIS = torch.tensor(
    [
        [0, 3.0, 5.0, 21.0, 27.0],
        [1, -9.0, -6.5, 14.0, 11.0],  # across the upper left border
        [1, 17.0, 20.0, 60.0, 41.0],  # across the lower right border
        [0, 12.2, 7.1, 12.9, 7.3],  # smaller than a pixel
        [0, -50.0, -50.0, -30.0, -30.0],  # outside
    ],
    dtype=torch.float64,
)


def features():
    return torch.randn(2, 3, 8, 10, dtype=torch.float64)


@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('sampling_ratio', [0, 1, 2, 3])
@pytest.mark.parametrize('scale', [0.25, 1.0])
def test_roi_align_averages_bilinear_samples(aligned, sampling_ratio, scale):
    x, size = features().requires_grad_(), (2, 3)
    out = roi_align(x, ROIS, size, scale, sampling_ratio, 'avg', aligned)
    expected = roi_align_loop(x, ROIS, size, scale, sampling_ratio, aligned)
    assert out.shape == (5, 3, 2, 3)
    assert_close(out, expected)

    loss_weight = torch.randn_like(out)
    actual_grad, expected_grad = (
        torch.autograd.grad((y * loss_weight).sum(), x)[0] for y in (out, expected)
    )
    assert_close(actual_grad, expected_grad)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
def test_roi_align_keeps_the_precision_of_its_input(dtype):
    x = features().to(dtype)
    out = roi_align(x, ROIS.float(), 2, 0.25)
    assert out.dtype == dtype
    assert_close(out, roi_align(x.double(), ROIS, 2, 0.25).to(dtype))


def test_roi_align_runs_under_autocast():
    x = features().bfloat16()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        out = roi_align(x, ROIS.bfloat16(), 2, 0.25)
    assert out.dtype == torch.bfloat16 and out.isfinite().all()


def test_roi_align_of_no_boxes_is_empty():
    assert roi_align(features(), torch.zeros(0, 5).double(), (2, 3)).shape == (0, 3, 2, 3)


@pytest.mark.parametrize('output_size', [3, (3, 3)])
def test_the_roi_align_module_is_the_function(output_size):
    module = RoIAlign(output_size, spatial_scale=0.25, sampling_ratio=2, aligned=False)
    assert module.output_size == (3, 3)
    x = features()
    assert_close(module(x, ROIS), roi_align(x, ROIS, 3, 0.25, 2, aligned=False))


def test_by_default_roi_align_is_aligned_and_samples_densely():
    x = features()
    expected = roi_align_loop(x, ROIS, (3, 3), 0.25, sampling_ratio=0, aligned=True)
    assert_close(roi_align(x, ROIS, 3, 0.25), expected)
    assert_close(RoIAlign(3, spatial_scale=0.25)(x, ROIS), expected)


def test_roi_align_rejects_another_pooling():
    with pytest.raises(ValueError, match="'avg', got 'max'"):
        roi_align(features(), ROIS, 2, pool_mode='max')


def sample_loop(image, x, y, align_corners):
    """Bilinear sample of (C, H, W) at (x, y) in [0, 1], with zeros around the image."""
    _, h, w = image.shape
    x, y = (x * (w - 1), y * (h - 1)) if align_corners else (x * w - 0.5, y * h - 0.5)
    value = torch.zeros_like(image[:, 0, 0])
    for i in (math.floor(y), math.floor(y) + 1):
        for j in (math.floor(x), math.floor(x) + 1):
            if 0 <= i < h and 0 <= j < w:
                value = value + (1 - abs(y - i)) * (1 - abs(x - j)) * image[:, i, j]
    return value


@pytest.mark.parametrize('align_corners', [True, False])
@pytest.mark.parametrize('shape', [(7,), (3, 4)])
def test_point_sample_is_bilinear(align_corners, shape):
    x, points = features(), torch.rand(2, *shape, 2, dtype=torch.float64)
    points[0].view(-1, 2)[0] = torch.tensor([0.01, 0.99])  # beside a corner
    out = point_sample(x, points, align_corners=align_corners)
    assert out.shape == (2, 3, *shape)
    for n in range(2):
        expected = [
            sample_loop(x[n], *point, align_corners) for point in points[n].view(-1, 2).tolist()
        ]
        assert_close(out[n].flatten(1), torch.stack(expected, dim=1))


def test_point_sample_has_the_right_gradient():
    x, points = features()[:, :1, :3, :3].requires_grad_(), torch.rand(2, 5, 2).double()
    assert torch.autograd.gradcheck(lambda x: point_sample(x, points), x)


@pytest.mark.skipif(not HAS_COMPILED_OPS, reason='mmcv has no compiled ops here')
class TestAgainstCompiledOps:
    def test_nms(self):
        import mmcv.ops

        corners = torch.rand(200, 2) * 100
        boxes = torch.cat([corners, corners + torch.rand(200, 2) * 40 + 1], dim=1)
        scores, classes = torch.rand(200), torch.arange(200) % 3
        for offset in (0, 1):
            kwargs = dict(iou_threshold=0.5, offset=offset, max_num=50, score_threshold=0.1)
            for ours, theirs in zip(
                compat.nms(boxes, scores, **kwargs),
                mmcv.ops.nms(boxes, scores, **kwargs),
                strict=True,
            ):
                assert_close(ours, theirs)
        cfg = dict(type='nms', iou_threshold=0.5)
        for ours, theirs in zip(
            compat.batched_nms(boxes, scores, classes, cfg),
            mmcv.ops.batched_nms(boxes, scores, classes, cfg),
            strict=True,
        ):
            assert_close(ours, theirs)

    @pytest.mark.parametrize('aligned', [True, False])
    @pytest.mark.parametrize('sampling_ratio', [0, 2])
    def test_roi_align(self, aligned, sampling_ratio):
        import mmcv.ops

        args = features().float(), ROIS.float(), (2, 3), 0.25, sampling_ratio, 'avg', aligned
        assert_close(roi_align(*args), mmcv.ops.roi_align(*args))

    @pytest.mark.parametrize('shape', [(7,), (3, 4)])
    def test_point_sample(self, shape):
        import mmcv.ops

        x, points = features(), torch.rand(2, *shape, 2).double()
        assert_close(point_sample(x, points), mmcv.ops.point_sample(x, points))
