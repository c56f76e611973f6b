"""The equations in batched PyTorch, one expression each, in the order of the paper.

What the other backends are compared with in speed (``mmwf benchmark plain:weightformer-tiny``).
Shapes as in ``naive.py``.
"""

import torch.nn.functional as F

from .low_rank import dense
from .naive import dwconv2d

__all__ = ['bilateral_weight', 'dwconv2d', 'dynamic_dwconv2d', 'dynamic_linear']


def bilateral_weight(a, p, u, v, scale):
    return ((F.silu(a) * scale) @ u).transpose(1, 2) @ (F.silu(p) @ v)  # (B, C, D)


def dynamic_linear(x, weight, delta, bias):
    y = x.flatten(1, -2) @ (weight + dense(delta)) + bias  # (B, N, D)
    return y.view(*x.shape[:-1], -1)


def dynamic_dwconv2d(x, weight, delta, bias):
    b, h, w, c = x.shape
    kernel = weight + delta.unsqueeze(2)  # (B, C, 1, K, K)
    # A grouped convolution with one group per image and channel.
    y = F.conv2d(
        x.permute(0, 3, 1, 2).reshape(1, b * c, h, w),
        kernel.flatten(0, 1),
        bias.repeat(b),
        padding=kernel.shape[-1] // 2,
        groups=b * c,
    )
    return y.view(b, c, h, w).permute(0, 2, 3, 1)
