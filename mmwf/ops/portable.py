"""The backend of exported models: standard operations that do not depend on the sizes of the input.

Other programs than PyTorch run an exported model, and one file may serve all batch and image sizes.
So there is no grouped convolution with a group per image, no operation of our own, and no choice by
size. Shapes as in ``naive.py``.
"""

from itertools import product

import torch
import torch.nn.functional as F

from .eager import bilateral_weight
from .low_rank import dense
from .naive import dwconv2d

__all__ = ['bilateral_weight', 'dwconv2d', 'dynamic_dwconv2d', 'dynamic_linear']


def dynamic_linear(x, weight, delta, bias):
    y = torch.baddbmm(bias, x.flatten(1, -2), weight + dense(delta))  # (B, N, D)
    return y.view(*x.shape[:-1], -1)


def dynamic_dwconv2d(x, weight, delta, bias):
    _, h, w, _ = x.shape
    size = weight.shape[-1]
    kernel = (weight.squeeze(1) + delta)[:, None, None]  # (B, 1, 1, C, K, K)
    padded = F.pad(x, (0, 0, *[size // 2] * 4))  # (B, H + K - 1, W + K - 1, C)
    y = bias
    for i, j in product(range(size), repeat=2):
        y = y + padded[:, i : i + h, j : j + w] * kernel[..., i, j]
    return y
