"""Correlation, tested against its definition as a loop."""

import pytest
import torch
from mmcv.ops import Correlation
from torch.testing import assert_close


@pytest.mark.parametrize(
    'options',
    [
        dict(max_displacement=1, padding=0, dilation=1),
        dict(kernel_size=3, max_displacement=1, padding=1, stride=2),
        dict(max_displacement=2, padding=0, dilation_patch=2),
    ],
)
def test_correlation_sums_products_over_the_window(options):
    a, b = torch.randn(2, 1, 3, 5, 6).double()
    out = Correlation(**options)(a, b)
    reach, step = options['max_displacement'], options.get('dilation_patch', 1)
    kernel, stride = options.get('kernel_size', 1), options.get('stride', 1)
    padding = options['padding']
    expected = torch.zeros_like(out)
    for p in range(out.shape[1]):
        for q in range(out.shape[2]):
            for i in range(out.shape[3]):
                for j in range(out.shape[4]):
                    for u in range(kernel):
                        for v in range(kernel):
                            y, x = i * stride - padding + u, j * stride - padding + v
                            dy, dx = (p - reach) * step, (q - reach) * step
                            inside = 0 <= y < 5 and 0 <= y + dy < 5
                            if inside and 0 <= x < 6 and 0 <= x + dx < 6:
                                product = (a[:, :, y, x] * b[:, :, y + dy, x + dx]).sum()
                                expected[0, p, q, i, j] += product
    assert_close(out, expected)
    check = Correlation(**options)
    args = a.requires_grad_(), b.requires_grad_()
    assert torch.autograd.gradcheck(check, args, fast_mode=True)
