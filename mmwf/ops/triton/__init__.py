"""Fused kernels for GPUs, written in Triton. Shapes as in ``naive.py``.

The kernels sum in fp32. Calls without a kernel are the eager backend's: those in float64, MLPs with
an output wider than ``fused_mlp.MAX_WIDTH``, and dynamic linear layers that are not in an MLP.
Second derivatives of the MLP and of the norm are an error.

Triton compiles a kernel when it is first launched, which needs a C compiler.

Note:
    Tested with Triton's interpreter, and compiled for CUDA. On a GPU: not run.
"""

import torch

from .. import composed, eager
from ..low_rank import LowRank
from . import dwconv, fused_mlp, predictor
from .launch import DTYPES, autocast_dtype

dynamic_linear = eager.dynamic_linear


def bilateral_weight(a, p, u, v, scale):
    if a.dtype not in DTYPES or autocast_dtype(a) != a.dtype:
        return eager.bilateral_weight(a, p, u, v, scale)
    return LowRank(u, predictor.correlation(a, p, scale) @ v)


def normalize_low_rank(delta):
    left, right = delta
    if right.dtype not in DTYPES or len(left) > predictor.MAX_RANK:
        return delta.normalized()
    left = left.float()
    return LowRank(delta.left, predictor.normalize(right, left @ left.T))


def _taps(weight, delta):
    """Returns the kernels in fp32 with the taps first: (1, K K, C) or (B, K K, C)."""
    kernels = weight.float().squeeze(1)[None]  # (1, C, K, K)
    if delta is not None:
        kernels = kernels + delta.float()
    return kernels.flatten(2).transpose(1, 2)


def dwconv2d(x, weight, bias):
    return dynamic_dwconv2d(x, weight, None, bias)


def dynamic_dwconv2d(x, weight, delta, bias):
    if x.dtype not in DTYPES:
        if delta is None:
            return eager.dwconv2d(x, weight, bias)
        return eager.dynamic_dwconv2d(x, weight, delta, bias)
    return dwconv.dwconv(x, _taps(weight, delta), bias, False, autocast_dtype(x))


def dwconv_norm(x, weight, delta, bias, norm_weight, norm_bias, eps):
    if x.dtype not in DTYPES:
        return composed.dwconv_norm(eager, x, weight, delta, bias, norm_weight, norm_bias, eps)
    dtype = torch.promote_types(x.dtype, autocast_dtype(x))
    # Autocast computes norms in fp32 on a GPU, but not on the CPU.
    autocast = x.is_cuda and torch.is_autocast_enabled('cuda')
    normed_dtype = torch.float32 if autocast else dtype
    y, normed, _, _ = dwconv.dwconv_norm(
        x, _taps(weight, delta), bias, norm_weight, norm_bias, eps, dtype, normed_dtype
    )
    return y, normed


def mlp(x, weight1, delta, bias1, weight2, bias2, approximate):
    dtype = autocast_dtype(x)
    if dtype not in DTYPES or len(weight2) > fused_mlp.MAX_WIDTH:
        return eager.mlp(x, weight1, delta, bias1, weight2, bias2, approximate)
    if isinstance(delta, LowRank):
        weight1 = delta.add_to(weight1)
    else:
        weight1 = weight1[None] if delta is None else weight1 + delta
    arguments = [t.to(dtype) for t in (x.flatten(1, -2), weight1, bias1, weight2, bias2)]
    return fused_mlp.mlp(*arguments, approximate).view(*x.shape[:-1], -1)
