"""The default backend: batched PyTorch. Shapes as in ``naive.py``."""

import torch
import torch.nn.functional as F


def bilateral_weight(a, p, u, v, scale):
    (_, m, r), s, c, d = a.shape, p.shape[-1], u.shape[-1], v.shape[-1]
    # Scaled before the products: in fp16 the unscaled sum over the tokens overflows.
    a, p = F.silu(a) * scale, F.silu(p)
    # Multiply-adds of the two orders. Only a^T p depends on the number of tokens in the second one,
    # so it is cheaper for large images.
    project_first = m * (r * c + s * d + c * d)
    correlate_first = m * r * s + c * r * s + c * s * d
    if project_first <= correlate_first:
        return (a @ u).transpose(1, 2) @ (p @ v)  # (B, C, D)
    return (u.T @ (a.transpose(1, 2) @ p)) @ v  # (B, C, D)


def dynamic_linear(x, weight, delta, bias):
    y = torch.baddbmm(bias, x.flatten(1, -2), weight + delta)  # (B, N, D)
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
