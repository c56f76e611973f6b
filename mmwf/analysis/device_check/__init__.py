"""Checks of a machine: whether this project computes correct results on it, and how fast.

Each section runs in its own process, so that a failure, even a crash of the device, does not stop
the others. Without a GPU every section runs on the CPU at toy size.
"""

from collections.abc import Callable
from importlib import import_module

from .checks import Context

#: The sections in the order in which they run, and the modules that hold their functions.
SECTIONS = {
    'environment': 'environment',
    'golden': 'numerics',
    'precision': 'numerics',
    'operations': 'numerics',
    'kernels': 'numerics',
    'training': 'training',
    'mmcv_ops': 'training',
    'quickstart': 'runs',
    'distributed': 'runs',
    'speed': 'speed',
}


def get_section(name: str) -> Callable[[Context], None]:
    """Imports the function of a section; it adds its results to the context."""
    return getattr(import_module(f'{__name__}.{SECTIONS[name]}'), name)
