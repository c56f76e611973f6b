"""Functional operations of the dynamic layers.

Each public function checks shapes and calls the current backend: ``'eager'`` (the default),
``'plain'`` (batched PyTorch, as simple as possible), ``'naive'`` (a loop over images, the reference
in tests), ``'portable'`` (for exported models) or ``'triton'`` (fused kernels; on a GPU: not run).
A new backend is a module with functions of the same names and one entry in ``BACKENDS``; layers and
state dicts do not change.
Without ``normalize_low_rank`` or the functions of ``composed.py``, they are composed of others.
"""

import math
from collections.abc import Callable
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor

from mmwf.errors import UserError

from . import composed, eager, naive, plain, portable
from .low_rank import LowRank, dense

__all__ = [
    'BACKENDS',
    'LowRank',
    'bilateral_weight',
    'dense',
    'dwconv2d',
    'dwconv_norm',
    'dynamic_dwconv2d',
    'dynamic_linear',
    'get_backend',
    'mlp',
    'normalize_weight',
    'set_backend',
    'use_backend',
]

#: ``'triton'`` is added when it is first chosen, since Triton does not exist for all systems.
BACKENDS = {'naive': naive, 'plain': plain, 'eager': eager, 'portable': portable}
_current = 'eager'


def get_backend() -> str:
    """Returns the name of the current backend."""
    return _current


def set_backend(name: str) -> None:
    """Sets the backend of all dynamic layers in this process.

    Args:
        name: One of ``BACKENDS``, or ``'triton'``.

    Raises:
        ValueError: If the backend is unknown.
        UserError: If the backend needs Triton and it is not installed.
    """
    global _current
    if name == 'triton':
        _load_triton()
    if name not in BACKENDS:
        known = sorted({*BACKENDS, 'triton'})
        raise ValueError(f'Expected backend to be one of {known}, got {name!r}.')
    _current = name


def _load_triton() -> None:
    try:
        from . import triton
    except ModuleNotFoundError as error:
        if error.name.partition('.')[0] != 'triton':
            raise
        raise UserError(
            "The backend 'triton' needs Triton, which comes with PyTorch for CUDA on Linux "
            "(pip install triton). Without it, use mmwf.ops.set_backend('eager')."
        ) from error
    BACKENDS['triton'] = triton


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


def _check_dims(expected: str, **tensors: tuple[Tensor, int | None]) -> None:
    """Checks types and numbers of dimensions; with None, at least three dimensions."""
    names = {name: tensor for name, (tensor, _) in tensors.items()}
    if not all(isinstance(tensor, Tensor) for tensor in names.values()):
        got = ', '.join(f'{name} {type(tensor).__name__}' for name, tensor in names.items())
        raise TypeError(f'Expected tensors; got {got}.')
    dims = ((tensor.dim(), dim) for tensor, dim in tensors.values())
    _check(all(got == dim if dim else got >= 3 for got, dim in dims), expected, **names)
    _check(all(tensor.numel() > 0 for tensor in names.values()), f'{expected}, none empty', **names)
    dtypes = {tensor.dtype for tensor in names.values()}
    one_dtype = len(dtypes) == 1 or torch.is_autocast_enabled(
        next(iter(names.values())).device.type
    )
    if not one_dtype or not all(dtype.is_floating_point for dtype in dtypes):
        got = ', '.join(f'{name} {tensor.dtype}' for name, tensor in names.items())
        raise ValueError(f'Expected tensors of one floating-point dtype; got {got}.')


def _fused_or_composed(name: str) -> Callable:
    backend = BACKENDS[_current]
    return getattr(backend, name, None) or partial(getattr(composed, name), backend)


def bilateral_weight(
    a: Tensor, p: Tensor, u: Tensor, v: Tensor, *, scale: float
) -> Tensor | LowRank:
    """Computes ``(silu(a) u)^T (silu(p) v) * scale`` for each image (paper eq. 8).

    The eager backend evaluates it as ``u^T ((silu(a)^T silu(p)) v)`` and returns both factors.

    Args:
        a: Left branch before its activation, (B, M, R).
        p: Right branch before its activation, (B, M, S).
        u: Projection to the input width, (R, C).
        v: Projection to the output width, (S, D).
        scale: Factor, applied before the products so that fp16 does not overflow.

    Returns:
        The weight update of each image, (B, C, D), or its factors; :func:`dense` gives the tensor.

    Raises:
        ValueError: If the shapes or dtypes do not match, or a tensor is empty.
        TypeError: If an argument is not a tensor.
    """
    expected = 'a (B, M, R), p (B, M, S), u (R, C), v (S, D)'
    _check_dims(expected, a=(a, 3), p=(p, 3), u=(u, 2), v=(v, 2))
    _check(
        a.shape[:2] == p.shape[:2] and a.shape[2] == u.shape[0] and p.shape[2] == v.shape[0],
        expected,
        a=a,
        p=p,
        u=u,
        v=v,
    )
    return BACKENDS[_current].bilateral_weight(a, p, u, v, scale)


def normalize_weight(delta: Tensor | LowRank, dim: int | tuple[int, ...]) -> Tensor | LowRank:
    """Computes ``delta / (||delta||_2 + 1)``, with the norm over ``dim``.

    The norm of the result is below 1, which keeps training stable.

    Args:
        delta: Predicted weights, any shape, or factors.
        dim: Dimensions over which the norm is computed; 1 for factors.

    Raises:
        ValueError: If ``delta`` is given by factors and ``dim`` is not 1; if it has no dimension
            ``dim``; or if it is not of floating-point numbers.
        TypeError: If ``delta`` is not a tensor.
    """
    if isinstance(delta, LowRank):
        if dim != 1:
            raise ValueError(f'Expected dim=1 for factors of a weight update, got {dim}.')
        _check_dims('left (R, C), right (B, R, D)', left=(delta.left, 2), right=(delta.right, 3))
        _check(
            len(delta.left) == delta.right.shape[1],
            'left (R, C), right (B, R, D)',
            left=delta.left,
            right=delta.right,
        )
        return getattr(BACKENDS[_current], 'normalize_low_rank', LowRank.normalized)(delta)
    if not isinstance(delta, Tensor):
        raise TypeError(f'Expected delta to be a tensor or LowRank, got {type(delta).__name__}.')
    dims = dim if isinstance(dim, tuple) else (dim,)
    is_valid = all(type(d) is int and -delta.dim() <= d < delta.dim() for d in dims)
    is_valid = is_valid and len({d % delta.dim() for d in dims}) == len(dims)
    if not dims or not is_valid or not delta.is_floating_point():
        raise ValueError(
            f'Expected delta of floating-point numbers and its dimensions dim; got delta '
            f'{tuple(delta.shape)} of {delta.dtype}, dim {dim}.'
        )
    return delta / (torch.linalg.vector_norm(delta, dim=dim, keepdim=True) + 1)


def _check_linear(x, weight, delta, bias) -> None:
    if isinstance(delta, LowRank):
        updates = dict(left=(delta.left, 2), right=(delta.right, 3))
        expected = 'left (R, C), right (B, R, D)'
    else:
        updates, expected = dict(delta=(delta, 3)), 'delta (B, C, D)'
    expected = f'x (B, ..., C), weight (C, D), {expected}, bias (D,)'
    _check_dims(expected, x=(x, None), weight=(weight, 2), **updates, bias=(bias, 1))
    (c, d), b = weight.shape, x.shape[0]
    if isinstance(delta, LowRank):
        r = len(delta.left)
        matches = delta.left.shape == (r, c) and delta.right.shape == (b, r, d)
    else:
        matches = delta.shape == (b, c, d)
    _check(
        matches and x.shape[-1] == c and bias.shape == (d,),
        expected,
        x=x,
        weight=weight,
        **{name: tensor for name, (tensor, _) in updates.items()},
        bias=bias,
    )


def dynamic_linear(x: Tensor, weight: Tensor, delta: Tensor | LowRank, bias: Tensor) -> Tensor:
    """Computes ``x (weight + delta) + bias``, each image with its own ``delta`` (paper eq. 3).

    Args:
        x: Tokens, (B, ..., C).
        weight: Static weight, input-first, (C, D).
        delta: Weight update of each image, (B, C, D), or its factors.
        bias: (D,).

    Returns:
        (B, ..., D).

    Raises:
        ValueError: If the shapes or dtypes do not match, or a tensor is empty.
        TypeError: If an argument is not a tensor.
    """
    _check_linear(x, weight, delta, bias)
    return BACKENDS[_current].dynamic_linear(x, weight, delta, bias)


def mlp(
    x: Tensor,
    weight1: Tensor,
    delta: Tensor | LowRank | None,
    bias1: Tensor,
    weight2: Tensor,
    bias2: Tensor,
    *,
    approximate: str = 'none',
) -> Tensor:
    """Computes ``gelu(x (weight1 + delta) + bias1) weight2^T + bias2``.

    Unlike the layers one by one, the eager backend keeps the GELU of the hidden layer neither in
    inference nor for the backward pass, which computes it again.

    Args:
        x: Tokens, (B, ..., C).
        weight1: Static weight of the first layer, input-first, (C, D).
        delta: Update of ``weight1`` for each image, (B, C, D), its factors, or None.
        bias1: (D,).
        weight2: Weight of the second layer, output-first as in :class:`torch.nn.Linear`, (E, D).
        bias2: (E,).
        approximate: ``'none'`` for the exact GELU, ``'tanh'`` for its approximation.

    Returns:
        (B, ..., E).

    Raises:
        ValueError: If the shapes or dtypes do not match, or a tensor is empty.
        TypeError: If an argument is not a tensor.
    """
    if approximate not in ('none', 'tanh'):
        raise ValueError(f"Expected approximate to be 'none' or 'tanh', got {approximate!r}.")
    expected = 'x (B, ..., C), weight1 (C, D), bias1 (D,), weight2 (E, D), bias2 (E,)'
    layers = dict(weight1=(weight1, 2), bias1=(bias1, 1), weight2=(weight2, 2), bias2=(bias2, 1))
    _check_dims(expected, x=(x, None), **layers)
    if delta is not None:
        _check_linear(x, weight1, delta, bias1)
    _check(
        x.shape[-1] == weight1.shape[0]
        and bias1.shape == weight1.shape[1:] == weight2.shape[1:]
        and bias2.shape == weight2.shape[:1],
        expected,
        x=x,
        weight1=weight1,
        bias1=bias1,
        weight2=weight2,
        bias2=bias2,
    )
    function = _fused_or_composed('mlp')
    return function(x, weight1, delta, bias1, weight2, bias2, approximate)


def _check_dwconv(x, weight, delta, bias) -> None:
    updates = {} if delta is None else dict(delta=(delta, 4))
    expected = ' delta (B, C, K, K),' if updates else ''
    expected = f'x (B, H, W, C), weight (C, 1, K, K) with K odd,{expected} bias (C,)'
    _check_dims(expected, x=(x, 4), weight=(weight, 4), **updates, bias=(bias, 1))
    c, k = weight.shape[0], weight.shape[-1]
    _check(
        x.shape[-1] == c
        and weight.shape == (c, 1, k, k)
        and k % 2 == 1
        and (delta is None or delta.shape == (x.shape[0], c, k, k))
        and bias.shape == (c,),
        expected,
        x=x,
        weight=weight,
        **{name: tensor for name, (tensor, _) in updates.items()},
        bias=bias,
    )


def dwconv2d(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Convolves all images with the same depthwise kernel.

    Zero padding keeps the size; the stride is 1.

    Args:
        x: Tokens, (B, H, W, C).
        weight: Kernel, (C, 1, K, K) with K odd.
        bias: (C,).

    Returns:
        (B, H, W, C).

    Raises:
        ValueError: If the shapes or dtypes do not match, or a tensor is empty.
        TypeError: If an argument is not a tensor.
    """
    _check_dwconv(x, weight, None, bias)
    return BACKENDS[_current].dwconv2d(x, weight, bias)


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
        ValueError: If the shapes or dtypes do not match, or a tensor is empty.
        TypeError: If an argument is not a tensor.
    """
    if delta is None:
        raise TypeError('Expected delta to be a tensor, got None.')
    _check_dwconv(x, weight, delta, bias)
    return BACKENDS[_current].dynamic_dwconv2d(x, weight, delta, bias)


def dwconv_norm(
    x: Tensor,
    weight: Tensor,
    delta: Tensor | None,
    bias: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    *,
    eps: float,
) -> tuple[Tensor, Tensor]:
    """Computes a residual depthwise convolution and the LayerNorm after it.

        y = x + dwconv(x)        normed = LayerNorm(y)

    Args:
        x: Tokens, (B, H, W, C).
        weight: Static kernel, (C, 1, K, K) with K odd.
        delta: Kernel update of each image, (B, C, K, K), or None.
        bias: Bias of the convolution, (C,).
        norm_weight: Scale of the norm, (C,).
        norm_bias: Shift of the norm, (C,).
        eps: Epsilon added to the variance.

    Returns:
        y and normed, (B, H, W, C) each.

    Raises:
        ValueError: If the shapes or dtypes do not match, or a tensor is empty.
        TypeError: If an argument is not a tensor.
    """
    _check_dwconv(x, weight, delta, bias)
    if not isinstance(eps, (int, float)) or not 0 <= eps < math.inf:
        raise ValueError(f'Expected a finite eps of 0 or more, got {eps!r}.')
    norms = dict(norm_weight=(norm_weight, 1), norm_bias=(norm_bias, 1))
    _check_dims('norm_weight (C,), norm_bias (C,)', **norms)
    _check(
        norm_weight.shape == norm_bias.shape == x.shape[-1:],
        'x (B, H, W, C), norm_weight (C,), norm_bias (C,)',
        x=x,
        norm_weight=norm_weight,
        norm_bias=norm_bias,
    )
    function = _fused_or_composed('dwconv_norm')
    return function(x, weight, delta, bias, norm_weight, norm_bias, eps)
