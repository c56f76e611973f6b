"""The steps of mmcv's SyncBatchNorm on one device, tested against PyTorch's layer."""

import pytest
import torch
import torch.nn.functional as F
from mmcv.ops.sync_bn import SyncBatchNormFunction
from torch.testing import assert_close


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16])
@pytest.mark.parametrize('stats_mode', ['default', 'N'])
def test_batch_normalization_on_one_device_is_pytorchs(stats_mode, dtype):
    x = (torch.randn(4, 3, 5, 2) * 3 + 1).to(dtype).requires_grad_()
    weight, bias = (torch.randn(3, requires_grad=True) for _ in range(2))
    stats = [(torch.zeros(3), torch.ones(3)) for _ in range(2)]
    out = SyncBatchNormFunction.apply(x, *stats[0], weight, bias, 0.1, 1e-5, None, 1, stats_mode)
    expected = F.batch_norm(x.float(), *stats[1], weight, bias, True, 0.1, 1e-5)
    assert out.dtype == dtype
    tolerance = dict(rtol=1e-4, atol=1e-5) if dtype == torch.float32 else dict(rtol=0.01, atol=0.01)
    assert_close(out.float(), expected, **tolerance)
    assert_close(stats[0], stats[1])
    grad = torch.randn_like(expected)
    actual, expected = (
        torch.autograd.grad((y.float() * grad).sum(), (x, weight, bias)) for y in (out, expected)
    )
    assert_close(actual, expected, **tolerance)
