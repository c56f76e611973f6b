"""Checks of the arguments of models."""

import math
from numbers import Real

from torch import Tensor

MIN_EPS = 1e-12  # of norms; without it, channels of the same value give 0 / 0


def check_sizes(**sizes) -> None:
    """Checks that numbers of channels, pixels, layers ... are positive integers.

    Raises:
        ValueError: If one is not; the message gives its name.
    """
    for name, size in sizes.items():
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise ValueError(f'Expected {name} to be a positive integer, got {size!r}.')


def check_number(name: str, value, low: float = 0.0, high: float = math.inf) -> None:
    """Checks that a number is in [low, high).

    Raises:
        ValueError: If it is not, or is not a number.
    """
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not is_number or not low <= value < high:
        raise ValueError(f'Expected {name} in [{low:g}, {high:g}), got {value!r}.')


def check_images(x: Tensor, channels: int) -> None:
    """Checks that these are images, (B, channels, height, width), at least one, and of floats.

    Raises:
        ValueError: If they are not.
    """
    is_batch = isinstance(x, Tensor) and x.dim() == 4 and x.shape[1] == channels and all(x.shape)
    if not is_batch or not x.is_floating_point():
        got = f'{tuple(x.shape)}, {x.dtype}' if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(
            f'Expected at least one image, (B, {channels}, height, width), of floating-point '
            f'numbers; got {got}.'
        )
