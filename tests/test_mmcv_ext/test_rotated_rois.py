"""Features at rotated regions and curves, tested against upright ones and loops."""

import math

import pytest
import torch
from mmcv.ops import (
    RiRoIAlignRotated,
    RoIAlignRotated,
    active_rotated_filter,
    bezier_align,
    roi_align,
    roi_align_rotated,
    rotated_feature_align,
)
from torch.testing import assert_close

#: Inside of images of 16 x 20 pixels, as (image, x, y, w, h).
REGIONS = torch.tensor([[0, 9.0, 8.0, 8.0, 6.0], [1, 10.5, 7.0, 5.0, 7.0]]).double()


def rotated(angle):
    return torch.cat([REGIONS, torch.full((2, 1), angle).double()], dim=1)


def upright():
    half = REGIONS[:, 3:] / 2
    corners = torch.cat([REGIONS[:, 1:3] - half, REGIONS[:, 1:3] + half], dim=1)
    return torch.cat([REGIONS[:, :1], corners], dim=1)


def features(channels=3):
    return torch.randn(2, channels, 16, 20, dtype=torch.float64)


@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('sampling_ratio', [0, 2])
def test_without_an_angle_it_is_roi_align(sampling_ratio, aligned):
    x = features()
    args = (2, 3), 0.5, sampling_ratio
    expected = roi_align(x, upright(), *args, 'avg', aligned)
    assert_close(roi_align_rotated(x, rotated(0.0), *args, aligned), expected)


@pytest.mark.parametrize('clockwise', [True, False])
def test_a_quarter_turn_turns_the_features(clockwise):
    # What a region sees when it turns one way is what a turned image shows to an upright one.
    x = torch.randn(1, 2, 15, 15).double()
    roi = torch.tensor([[0, 7.5, 7.5, 8.0, 4.0]]).double()
    turned = torch.cat([roi, torch.full((1, 1), math.pi / 2).double()], dim=1)
    out = roi_align_rotated(x, turned, (2, 4), 1.0, 2, True, clockwise)
    image = torch.rot90(x, 1 if clockwise else -1, dims=(2, 3))
    straight = torch.cat([roi, torch.zeros(1, 1).double()], dim=1)
    assert_close(out, roi_align_rotated(image, straight, (2, 4), 1.0, 2, True))


def test_rotated_samples_are_turned_from_x_to_minus_y():
    # On a linear image, the mean of a bin is the value at its centre.
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(20.0), indexing='ij')
    image = (3 * x + 5 * y).double().expand(2, 1, 16, 20)
    out = roi_align_rotated(image, rotated(0.3), (1, 2), 1.0, 2, False)
    for region, value in zip(REGIONS, out, strict=True):
        for side, actual in zip((-1, 1), value.flatten(), strict=True):
            u = side * region[3] / 4
            centre = region[1] + u * math.cos(0.3), region[2] - u * math.sin(0.3)
            assert_close(actual, 3 * centre[0] + 5 * centre[1])


@pytest.mark.parametrize('layer', [RoIAlignRotated, RiRoIAlignRotated])
def test_it_has_the_right_gradient(layer):
    module = layer((2, 2), 0.5, 2)
    x = features(8)[:, :, :6, :6].requires_grad_()
    assert torch.autograd.gradcheck(lambda x: module(x, rotated(0.7)), x, fast_mode=True)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_it_keeps_the_precision(dtype):
    x, rois = features().to(dtype).requires_grad_(), rotated(0.7).to(dtype)
    out = roi_align_rotated(x, rois, 2, 0.5, 2)
    out.sum().backward()
    assert out.dtype == x.grad.dtype == dtype
    expected = roi_align_rotated(x.double(), rois.double(), 2, 0.5, 2)
    assert_close(out, expected.to(dtype))


def test_no_regions_are_empty():
    assert roi_align_rotated(features(), torch.zeros(0, 6).double(), 2, 1.0).shape == (0, 3, 2, 2)
    out = RiRoIAlignRotated(2, 1.0, 2, num_orientations=4)(features(8), torch.zeros(0, 6).double())
    assert out.shape == (0, 8, 2, 2)


@pytest.mark.parametrize(('steps', 'share'), [(0, 0.0), (1, 0.0), (3, 0.25)])
def test_rotation_invariant_roi_align_turns_the_orientations(steps, share):
    x, angle = features(8), (steps + share) * math.pi / 2  # 4 orientations
    out = RiRoIAlignRotated((2, 3), 0.5, 2, num_orientations=4)(x, rotated(angle))
    plain = roi_align_rotated(x, rotated(angle), (2, 3), 0.5, 2, False)
    for channel in range(8):
        group, o = divmod(channel, 4)
        first, second = (plain[:, 4 * group + (o - steps + n) % 4] for n in (0, 1))
        assert_close(out[:, channel], (1 - share) * first + share * second, atol=1e-6, rtol=1e-6)


def on_curve(points, u):
    """The point of a Bezier curve at u, by de Casteljau's algorithm."""
    while len(points) > 1:
        points = [a + u * (b - a) for a, b in zip(points, points[1:], strict=False)]
    return points[0]


@pytest.mark.parametrize('aligned', [True, False])
def test_bezier_align_samples_between_the_curves(aligned):
    # On a linear image, the mean of a bin is the value at its centre: (i / h, j / w) for mmcv.
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(20.0), indexing='ij')
    image = (3 * x + 5 * y).double().expand(1, 1, 16, 20)
    upper = torch.tensor([[4.0, 4], [7, 2], [10, 6], [15, 5]]).double()
    lower = torch.tensor([[15.0, 10], [12, 12], [8, 9], [4, 11]]).double()  # from right to left
    bezier = torch.cat([torch.zeros(1).double(), upper.flatten(), lower.flatten()])[None]
    out = bezier_align(image, bezier, (2, 3), 1.0, 2, aligned)
    for i in range(2):
        for j in range(3):
            above, below = on_curve(list(upper), j / 3), on_curve(list(lower.flip(0)), j / 3)
            centre = above + i / 2 * (below - above) - 0.5 * aligned
            assert_close(out[0, 0, i, j], 3 * centre[0] + 5 * centre[1])
    check = lambda x: bezier_align(x, bezier, 2, 0.4, 2, aligned)  # noqa: E731
    x = torch.randn(1, 1, 5, 6).double().requires_grad_()
    assert torch.autograd.gradcheck(check, x, fast_mode=True)


@pytest.mark.parametrize('points', [1, 5])
def test_feature_alignment_adds_the_features_at_the_box(points):
    # A linear image again: the corners' mean is the centre.
    rows, columns = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing='ij')
    x = (3 * columns + 5 * rows).double().expand(1, 2, 8, 8).clone().requires_grad_()
    boxes = torch.rand(1, 8, 8, 5).double() + torch.tensor([6, 7, 2, 2, 0])
    out = rotated_feature_align(x, boxes, 0.5, points)
    at_centre = 3 * boxes[..., 1] / 2 + 5 * boxes[..., 0] / 2
    assert_close(out, x + points * at_centre[:, None])
    check = lambda x: rotated_feature_align(x, boxes[:, :4, :4], 0.25, points)  # noqa: E731
    assert torch.autograd.gradcheck(check, x[..., :4, :4].detach().requires_grad_(), fast_mode=True)


def test_active_rotated_filters_permute_the_entries():
    filters = torch.randn(2, 3, 4, 3, 3).double().requires_grad_()
    indices = torch.stack([torch.randperm(36) + 1 for _ in range(5)], dim=1).view(4, 3, 3, 5)
    out = active_rotated_filter(filters, indices.int())
    assert out.shape == (10, 12, 3, 3)
    copies = out.view(2, 5, 3, 36)
    for entry in range(36):
        for copy in range(5):
            target = int(indices.view(36, 5)[entry, copy]) - 1
            assert torch.equal(copies[:, copy, :, target], filters.flatten(2)[..., entry])
    check = lambda x: active_rotated_filter(x, indices.int())  # noqa: E731
    assert torch.autograd.gradcheck(check, filters, fast_mode=True)
