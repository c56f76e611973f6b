"""Functional operations of the dynamic layers.

Each public function checks shapes and calls the current backend: ``'eager'`` (batched PyTorch, the
default) or ``'naive'`` (a loop over images, the reference in tests). A new backend is a module with
functions of the same names and one entry in ``BACKENDS``; layers and state dicts do not change.
"""

from contextlib import contextmanager

import torch
from torch import Tensor

from . import eager, naive

__all__ = [
    'BACKENDS',
    'bilateral_weight',
    'dynamic_dwconv2d',
    'dynamic_linear',
    'get_backend',
    'normalize_weight',
    'set_backend',
    'use_backend',
]

BACKENDS = {'naive': naive, 'eager': eager}
_current = 'eager'


def get_backend() -> str:
    """Returns the name of the current backend."""
    return _current


def set_backend(name: str) -> None:
    """Sets the backend of all dynamic layers in this process.

    Args:
        name: One of ``BACKENDS``.

    Raises:
        ValueError: If the backend is unknown.
    """
    global _current
    if name not in BACKENDS:
        raise ValueError(f'Expected backend to be one of {sorted(BACKENDS)}, got {name!r}.')
    _current = name


@contextmanager
def use_backend(name: str):
    """Sets the backend inside a ``with`` block; see :func:`set_backend`."""
    previous = get_backend()
    set_backend(name)
    try:
        yield
    finally:
        set_backend(previous)


def _check(condition: bool, expected: str, **tensors: Tensor) -> None:
    if not condition:
        got = ', '.join(f'{name} {tuple(t.shape)}' for name, t in tensors.items())
        raise ValueError(f'Expected {expected}; got {got}.')


def bilateral_weight(a: Tensor, p: Tensor, u: Tensor, v: Tensor, *, scale: float) -> Tensor:
    """Computes ``(silu(a) u)^T (silu(p) v) * scale`` for each image (paper eq. 8).

    The product can also be evaluated as ``u^T (silu(a)^T silu(p)) v``; the eager backend takes the
    cheaper order.

    Args:
        a: Left branch before its activation, (B, M, R).
        p: Right branch before its activation, (B, M, S).
        u: Projection to the input width, (R, C).
        v: Projection to the output width, (S, D).
        scale: Factor, applied before the products so that fp16 does not overflow.

    Returns:
        The weight update of each image, (B, C, D).

    Raises:
        ValueError: If the shapes do not match.
    """
    _check(
        a.dim() == p.dim() == 3
        and a.shape[:2] == p.shape[:2]
        and a.shape[2] == u.shape[0]
        and p.shape[2] == v.shape[0],
        'a (B, M, R), p (B, M, S), u (R, C), v (S, D)',
        a=a,
        p=p,
        u=u,
        v=v,
    )
    return BACKENDS[_current].bilateral_weight(a, p, u, v, scale)


def normalize_weight(delta: Tensor, dim: int | tuple[int, ...]) -> Tensor:
    """Computes ``delta / (||delta||_2 + 1)``, with the norm over ``dim``.

    The norm of the result is below 1, which keeps training stable.

    Args:
        delta: Predicted weights, any shape.
        dim: Dimensions over which the norm is computed.
    """
    return delta / (torch.linalg.vector_norm(delta, dim=dim, keepdim=True) + 1)


def dynamic_linear(x: Tensor, weight: Tensor, delta: Tensor, bias: Tensor) -> Tensor:
    """Computes ``x (weight + delta) + bias``, each image with its own ``delta`` (paper eq. 3).

    Args:
        x: Tokens, (B, ..., C).
        weight: Static weight, input-first, (C, D).
        delta: Weight update of each image, (B, C, D).
        bias: (D,).

    Returns:
        (B, ..., D).

    Raises:
        ValueError: If the shapes do not match.
    """
    _check(
        x.dim() >= 3
        and delta.shape == (x.shape[0], *weight.shape)
        and x.shape[-1] == weight.shape[0]
        and bias.shape == weight.shape[1:],
        'x (B, ..., C), weight (C, D), delta (B, C, D), bias (D,)',
        x=x,
        weight=weight,
        delta=delta,
        bias=bias,
    )
    return BACKENDS[_current].dynamic_linear(x, weight, delta, bias)


def dynamic_dwconv2d(x: Tensor, weight: Tensor, delta: Tensor, bias: Tensor) -> Tensor:
    """Convolves each image with its own depthwise kernel ``weight + delta`` (paper eq. 9).

    Zero padding keeps the size; the stride is 1.

    Args:
        x: Tokens, (B, H, W, C).
        weight: Static kernel, (C, 1, K, K) with K odd.
        delta: Kernel update of each image, (B, C, K, K).
        bias: (C,).

    Returns:
        (B, H, W, C).

    Raises:
        ValueError: If the shapes do not match.
    """
    c, k = weight.shape[0], weight.shape[-1]
    _check(
        x.dim() == 4
        and x.shape[-1] == c
        and weight.shape == (c, 1, k, k)
        and k % 2 == 1
        and delta.shape == (x.shape[0], c, k, k)
        and bias.shape == (c,),
        'x (B, H, W, C), weight (C, 1, K, K) with K odd, delta (B, C, K, K), bias (C,)',
        x=x,
        weight=weight,
        delta=delta,
        bias=bias,
    )
    return BACKENDS[_current].dynamic_dwconv2d(x, weight, delta, bias)
