"""Precise RoI pooling, tested against known values and RoIAlign with many samples."""

import torch
from mmcv import _ext
from mmcv.ops import PrRoIPool, prroi_pool, roi_align
from torch.testing import assert_close


def test_precise_roi_pooling_of_a_known_image():
    x = torch.tensor([[[[1.0, 2], [3, 4]]]], requires_grad=True)
    rois = torch.tensor([[0.0, 0, 0, 1, 1]], requires_grad=True)
    out = PrRoIPool(2)(x, rois)
    # The value at (x, y) is 1 + x + 2 y; each bin's mean is that at its centre.
    assert_close(out, torch.tensor([[[[1.75, 2.25], [2.75, 3.25]]]]))
    out.sum().backward()
    assert_close(x.grad, torch.ones(1, 1, 2, 2))
    assert_close(rois.grad, torch.tensor([[0.0, 2, 4, 2, 4]]))


def test_precise_roi_pooling_is_the_limit_of_many_samples():
    x = torch.randn(2, 3, 8, 9)
    rois = torch.tensor([[0, 1.2, 0.7, 6.1, 5.9], [1, 2.5, 2.0, 7.3, 6.5]])
    expected = roi_align(x, rois, (2, 3), 1.0, 100, 'avg', False)
    assert_close(prroi_pool(x, rois, (2, 3), 1.0), expected, rtol=0, atol=1e-3)


def test_precise_roi_pooling_has_the_right_gradients():
    x = torch.randn(1, 2, 5, 6).double()
    rois = torch.tensor([[0, 0.3, 0.6, 4.2, 3.7], [0, -2.3, 1.1, 2.6, 9.4]]).double()
    out = torch.zeros(2, 2, 2, 3).double()
    _ext.prroi_pool_forward(x, rois, out, 2, 3, 1.0)
    grad_output, grad_x, grad_rois = torch.randn_like(out), torch.zeros_like(x), rois.clone()
    _ext.prroi_pool_backward(grad_output, rois, grad_x, 2, 3, 1.0)
    _ext.prroi_pool_coor_backward(out, grad_output, x, rois, grad_rois, 2, 3, 1.0)
    assert_close((grad_x * x).sum(), (grad_output * out).sum())  # linear in the features
    assert grad_rois[:, 0].eq(0).all()
    for index in ((0, 1), (0, 4), (1, 2), (1, 3)):
        values = []
        for step in (1e-6, -1e-6):
            moved, value = rois.clone(), torch.zeros_like(out)
            moved[index] += step
            _ext.prroi_pool_forward(x, moved, value, 2, 3, 1.0)
            values.append((value * grad_output).sum())
        assert_close((values[0] - values[1]) / 2e-6, grad_rois[index], rtol=1e-5, atol=1e-7)
