"""The reference backend: a loop over images that follows the equations of the paper.

Other backends are tested against it. Products are evaluated in the order of the paper, so counting
its operations gives the multiply-adds of the paper.

Shapes: B images, H x W tokens (N = H W, M after pooling), C input width, D output width,
R and S hidden widths of the two bilateral branches, K kernel size.
"""

import torch
import torch.nn.functional as F

from .low_rank import dense


def bilateral_weight(a, p, u, v, scale):
    deltas = []
    for a_i, p_i in zip(a, p, strict=True):
        left = (F.silu(a_i) * scale) @ u  # (M, C)
        right = F.silu(p_i) @ v  # (M, D)
        deltas.append(left.T @ right)  # (C, D)
    return torch.stack(deltas)


def dynamic_linear(x, weight, delta, bias):
    outputs = []
    for x_i, delta_i in zip(x, dense(delta), strict=True):
        outputs.append(x_i @ (weight + delta_i) + bias)  # (..., D)
    return torch.stack(outputs)


def dwconv2d(x, weight, bias):
    c, _, _, k = weight.shape
    y = F.conv2d(x.permute(0, 3, 1, 2), weight, bias, padding=k // 2, groups=c)
    return y.permute(0, 2, 3, 1)


def dynamic_dwconv2d(x, weight, delta, bias):
    outputs = []
    for x_i, delta_i in zip(x, delta, strict=True):
        kernel = weight + delta_i.unsqueeze(1)  # (C, 1, K, K)
        y_i = F.conv2d(
            x_i.permute(2, 0, 1)[None],
            kernel,
            bias,
            padding=kernel.shape[-1] // 2,
            groups=kernel.shape[0],
        )
        outputs.append(y_i[0].permute(1, 2, 0))  # (H, W, C)
    return torch.stack(outputs)
