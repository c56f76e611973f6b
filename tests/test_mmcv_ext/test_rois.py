"""Pooling of regions and point sampling, tested against bilinear interpolation as a loop."""

import math

import pytest
import torch
import torchvision
from mmcv.ops import (
    BorderAlign,
    DeformRoIPoolPack,
    ModulatedDeformRoIPoolPack,
    RoIAlign,
    RoIPool,
    SimpleRoIAlign,
    deform_roi_pool,
    point_sample,
    roi_align,
    roi_pool,
)
from torch.testing import assert_close

from mmwf.mmcv_ext import rois


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


def roi_align_loop(
    features, rois, size, scale, sampling_ratio, aligned, pool=lambda samples: samples.mean(0)
):
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
            pool(
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
                )
            )
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


@pytest.mark.parametrize('aligned', [True, False])
def test_the_gradient_of_roi_align_does_not_depend_on_the_size_of_the_map(aligned, monkeypatch):
    corners = 40 * torch.rand(20, 4).double() - 8  # some regions are outside or upside down
    regions = torch.cat([torch.randint(0, 2, (20, 1)), corners], dim=1)
    x, direction = features(), torch.randn(20, 3, 2, 4).double()
    gradients = []
    for small in (0, 10**6):
        monkeypatch.setattr(rois, 'SMALL_MAP', small)
        leaf = x.clone().requires_grad_()
        roi_align(leaf, regions, (2, 4), 0.25, 2, 'avg', aligned).backward(direction)
        gradients.append(leaf.grad)
    assert gradients[0].any()
    assert_close(*gradients)


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
    assert_close(module(x, ROIS), roi_align(x, ROIS, 3, 0.25, 2, 'avg', False))


def test_by_default_roi_align_is_aligned_and_samples_densely():
    x = features()
    expected = roi_align_loop(x, ROIS, (3, 3), 0.25, sampling_ratio=0, aligned=True)
    assert_close(roi_align(x, ROIS, 3, 0.25), expected)
    assert_close(RoIAlign(3, spatial_scale=0.25)(x, ROIS), expected)


@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('sampling_ratio', [0, 2])
def test_roi_align_takes_the_maximum_of_bilinear_samples(aligned, sampling_ratio):
    x, size = features().requires_grad_(), (2, 3)
    args = ROIS, size, 0.25, sampling_ratio
    out = roi_align(x, *args, 'max', aligned)
    expected = roi_align_loop(x, *args, aligned, pool=lambda samples: samples.amax(0))
    assert_close(out, expected)
    loss_weight = torch.randn_like(out)
    actual, expected = (torch.autograd.grad((y * loss_weight).sum(), x)[0] for y in (out, expected))
    assert_close(actual, expected)


def test_roi_align_rejects_another_pooling():
    with pytest.raises(AssertionError):
        roi_align(features(), ROIS, 2, 1.0, 0, 'median')


@pytest.mark.parametrize('use_torchvision', [True, False])
def test_roi_align_is_the_same_with_torchvision(use_torchvision):
    x = features()
    module = RoIAlign((2, 3), 0.25, sampling_ratio=2, use_torchvision=use_torchvision)
    expected = torchvision.ops.roi_align(x, ROIS, (2, 3), 0.25, 2, aligned=True)
    assert_close(module(x, ROIS), expected)


def roi_pool_loop(features, rois, size, scale):
    """mmcv's definition: bins of (x1, y1, x2 + 1, y2 + 1) * scale, from floor to ceil."""
    out = features.new_zeros(len(rois), features.shape[1], *size)
    for n, roi in enumerate(rois.tolist()):
        x1, y1, x2, y2 = roi[1] * scale, roi[2] * scale, (roi[3] + 1) * scale, (roi[4] + 1) * scale
        if x2 <= x1 or y2 <= y1:
            continue
        for i in range(size[0]):
            for j in range(size[1]):
                height, width = (y2 - y1) / size[0], (x2 - x1) / size[1]
                rows = slice(max(math.floor(y1 + i * height), 0), math.ceil(y1 + (i + 1) * height))
                columns = slice(max(math.floor(x1 + j * width), 0), math.ceil(x1 + (j + 1) * width))
                if rows.stop <= rows.start or columns.stop <= columns.start:
                    continue
                cell = features[int(roi[0]), :, rows, columns]
                if cell.numel():
                    out[n, :, i, j] = cell.amax((1, 2))
    return out


@pytest.mark.parametrize('scale', [0.25, 1.0])
def test_roi_pool_takes_the_maximum_of_each_bin(scale):
    x = features().requires_grad_()
    out, expected = roi_pool(x, ROIS, (2, 3), scale), roi_pool_loop(x, ROIS, (2, 3), scale)
    assert out.shape == (5, 3, 2, 3) and out[4].eq(0).all()
    assert_close(out, expected)
    loss_weight = torch.randn_like(out)
    actual, expected = (torch.autograd.grad((y * loss_weight).sum(), x)[0] for y in (out, expected))
    assert_close(actual, expected)


def test_roi_pool_of_a_known_image():
    x = torch.arange(1.0, 17).view(1, 1, 4, 4)
    out = RoIPool(2)(x, torch.tensor([[0, 0, 0, 3, 3.0]]))
    assert out.flatten().tolist() == [6, 8, 14, 16]


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize('module', [RoIPool(2, 0.25), RoIAlign(2, 0.25, pool_mode='max')])
def test_max_pooling_keeps_the_precision_of_its_input(module, dtype):
    x = features().to(dtype).requires_grad_()
    out = module(x, ROIS.to(dtype))
    out.sum().backward()
    assert out.dtype == x.grad.dtype == dtype
    assert_close(out, module(x.double(), ROIS.to(dtype).double()).to(dtype))


def test_deform_roi_pool_without_offsets_is_roi_align():
    x, none = features(), None
    out = deform_roi_pool(x, ROIS, none, (2, 3), 0.25, 2)
    assert_close(out, roi_align(x, ROIS, (2, 3), 0.25, 2, 'avg', True))
    zero = torch.zeros(5, 2, 2, 3).double()
    assert_close(deform_roi_pool(x, ROIS, zero, (2, 3), 0.25, 2), out)


def test_deform_roi_pool_moves_bins_by_their_offsets():
    # Both bins of a region of 8 x 4 move by 0.1 * 0.5 of its sides.
    x = features()
    rois = torch.tensor([[1, 1.0, 2.0, 9.0, 6.0]]).double()
    offset = torch.full((1, 2, 1, 2), 0.5).double()
    out = deform_roi_pool(x, rois, offset, (1, 2), 1.0, 2, 0.1)
    moved = rois + torch.tensor([0, 0.4, 0.2, 0.4, 0.2]).double()
    assert_close(out, roi_align(x, moved, (1, 2), 1.0, 2, 'avg', True))


def test_deform_roi_pool_has_the_right_gradients():
    x, offset = features()[:, :1], torch.randn(2, 2, 2, 2).double()
    rois = ROIS[:2]
    check = lambda x, offset: deform_roi_pool(x, rois, offset, 2, 0.25, 2, 0.1)  # noqa: E731
    assert torch.autograd.gradcheck(check, (x.requires_grad_(), offset.requires_grad_()))


@pytest.mark.parametrize('layer', [DeformRoIPoolPack, ModulatedDeformRoIPoolPack])
def test_deform_roi_pool_layers_train(layer):
    x = features().float().requires_grad_()
    layer((2, 2), 3, deform_fc_channels=8, spatial_scale=0.25)(x, ROIS.float()).sum().backward()
    assert x.grad.abs().sum() > 0


def test_border_align_takes_the_maximum_on_each_border():
    x = torch.randn(2, 8, 6, 7).double().requires_grad_()
    corners = torch.rand(2, 5, 2).double() * 3
    boxes = torch.cat([corners, corners + torch.rand(2, 5, 2).double() * 3], dim=-1)
    expected = torch.zeros(2, 2, 5, 4).double()
    for n in range(2):
        for k, (x1, y1, x2, y2) in enumerate(boxes[n].tolist()):
            starts = ((x1, y1), (x1, y1), (x2, y2), (x2, y2))
            ends = ((x2, y1), (x1, y2), (x1, y2), (x2, y1))
            for side, (start, end) in enumerate(zip(starts, ends, strict=True)):
                image = x[n, 2 * side : 2 * side + 2]
                samples = [
                    interpolate(
                        image,
                        start[1] + (end[1] - start[1]) * i / 3,
                        start[0] + (end[0] - start[0]) * i / 3,
                    )
                    for i in range(4)
                ]
                expected[n, :, k, side] = torch.stack(samples).amax(0)
    out = BorderAlign(3)(x, boxes)
    assert_close(out, expected)
    loss_weight = torch.randn_like(out)
    actual, expected = (torch.autograd.grad((y * loss_weight).sum(), x)[0] for y in (out, expected))
    assert_close(actual, expected)


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


def test_simple_roi_align_samples_the_centres_of_bins():
    x = features()
    out = SimpleRoIAlign((2, 3), 0.25)(x, ROIS)
    expected = roi_align(x, ROIS, (2, 3), 0.25, 1, 'avg', True)
    # Inside the image, where the borders do not differ; mmcv computes the points in fp32.
    assert_close(out[:1], expected[:1], rtol=1e-5, atol=1e-5)
