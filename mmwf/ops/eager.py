"""The operations of the dynamic layers in batched PyTorch: the default implementation.

Shapes as in ``naive.py``. Nothing here mixes images: each one is multiplied by its own weight.
"""

import torch
import torch.nn.functional as F


def bilateral_weight(a, p, u, v, scale):
    (_, m, r), s, c, d = a.shape, p.shape[-1], u.shape[-1], v.shape[-1]
    # Scaled before the products: in fp16 the unscaled sum over the tokens overflows.
    a, p = F.silu(a) * scale, F.silu(p)
    # U^T [a^T p] V: only the bracket sees the tokens, so it wins as soon as there are many of them.
    paper_cost = m * (r * c + s * d + c * d)
    bracket_cost = m * r * s + c * r * s + c * s * d
    if paper_cost <= bracket_cost:
        return (a @ u).transpose(1, 2) @ (p @ v)  # (B, C, D)
    return (u.T @ (a.transpose(1, 2) @ p)) @ v  # (B, C, D)


def dynamic_linear(x, weight, delta, bias):
    y = torch.baddbmm(bias, x.flatten(1, -2), weight + delta)  # (B, N, D)
    return y.view(*x.shape[:-1], -1)


def dynamic_dwconv2d(x, weight, delta, bias):
    b, h, w, c = x.shape
    kernel = weight + delta.unsqueeze(2)  # (B, C, 1, K, K)
    # One group for each channel of each image.
    y = F.conv2d(
        x.permute(0, 3, 1, 2).reshape(1, b * c, h, w),
        kernel.flatten(0, 1),
        bias.repeat(b),
        padding=kernel.shape[-1] // 2,
        groups=b * c,
    )
    return y.view(b, c, h, w).permute(0, 2, 3, 1)
