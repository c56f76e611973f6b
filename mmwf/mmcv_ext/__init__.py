"""``mmcv.ops`` without a compiler: a stand-in for mmcv's compiled module ``mmcv._ext``.

mmdet and mmseg import ``mmcv.ops``, whose Python files need ``mmcv._ext``; mmcv's wheel on PyPI
lacks it. When, and only when, it is missing, :func:`install` answers its import with the
operations of this folder: torchvision's kernels and plain PyTorch. An operation that is not there
raises a clear error when it is called, not when it is imported.
"""

import importlib
import importlib.util
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path

from mmwf.families import find_distribution

__all__ = ['has_compiled_mmcv_ops', 'install']

_NAME = 'mmcv._ext'


def has_compiled_mmcv_ops() -> bool:
    """Tells whether mmcv has its compiled extension, without importing mmcv."""
    spec = importlib.util.find_spec('mmcv')
    folders = spec.submodule_search_locations if spec else []
    return any(next(Path(folder).glob('_ext.*'), None) for folder in folders)


def _needs_compiled_mmcv() -> str:
    """Says how to compile mmcv of the family and version that is installed."""
    found = find_distribution('mmcv')
    name = found.name if found else 'onedl-mmcv'
    remove = 'pip uninstall -y mmcv-lite && ' * (name == 'mmcv-lite')  # mmcv without its ops
    name = name.removesuffix('-lite')
    wanted = f'{name}=={found.version}' if found else name
    return (
        f'it needs mmcv compiled with its ops. With a C++ compiler: {remove}MMCV_WITH_OPS=1 '
        'pip install --force-reinstall --no-deps --no-build-isolation --no-cache-dir '
        f'--no-binary {name} {wanted}'
    )


def _missing(name: str):
    """Module ``__getattr__``: a function that can be imported, but not called."""
    if name.startswith('_'):
        raise AttributeError(f'module {_NAME!r} has no attribute {name!r}')

    def operation(*args, **kwargs):
        raise RuntimeError(f'{_NAME}.{name} is not available: {_needs_compiled_mmcv()}')

    operation.__name__ = operation.__qualname__ = name
    return operation


class _ExtensionFinder(MetaPathFinder, Loader):
    """Answers the import of ``mmcv._ext`` with the stand-in."""

    def find_spec(self, fullname, path, target=None):
        return ModuleSpec(fullname, self) if fullname == _NAME else None

    def create_module(self, spec):
        return None  # a plain module

    def exec_module(self, module):
        # Late: it imports torchvision.
        operations = importlib.import_module('mmwf.mmcv_ext.operations')
        module.__doc__ = operations.__doc__
        module.__dict__.update(operations.OPERATIONS)
        module.__getattr__ = _missing


def install() -> bool:
    """Makes ``import mmcv._ext`` give the stand-in, unless the compiled module is there.

    Returns:
        Whether ``mmcv._ext`` is the stand-in now.
    """
    if any(isinstance(finder, _ExtensionFinder) for finder in sys.meta_path):
        return True
    if _NAME in sys.modules or has_compiled_mmcv_ops():
        return False
    # Last, so that a compiled module, wherever it is found, goes first.
    sys.meta_path.append(_ExtensionFinder())
    return True
