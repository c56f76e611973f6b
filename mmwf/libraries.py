"""Importing the OpenMMLab libraries on demand, without their noise."""

import contextlib
import io
import sys
import warnings
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder

from mmengine.config import Config
from mmengine.logging import MMLogger

from . import families


class _AfterImport(MetaPathFinder):
    """Calls a function right after a module has been imported."""

    def __init__(self, name: str, callback: Callable[[], None]):
        self.name = name
        self.callback = callback

    def find_spec(self, fullname, path, target=None):
        if fullname != self.name:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            self.callback()

        spec.loader.exec_module = exec_module
        return spec


def after_import(name: str, callback: Callable[[], None]) -> None:
    """Calls a function once a module has been imported, or now if it already has been.

    ``import mmwf`` patches modules of MMEngine that take a second to import. It does not import
    them itself, so only their users pay for that second.

    Args:
        name: Full name of the module.
        callback: Function without arguments.
    """
    if name in sys.modules:
        callback()
    else:
        sys.meta_path.insert(0, _AfterImport(name, callback))


@contextlib.contextmanager
def quiet_imports() -> Iterator[None]:
    """Hides known messages that other packages print when imported, and nothing else."""
    MMLogger.get_current_instance()  # created now, so that its handler holds the real stdout
    out = io.StringIO()
    try:
        with contextlib.redirect_stdout(out), warnings.catch_warnings():
            warnings.filterwarnings('ignore', message='Fail to import ``MultiScaleDeformable')
            warnings.filterwarnings('ignore', message='faster_coco_eval is not installed')
            yield
    finally:
        for line in out.getvalue().splitlines():
            if line.strip() and not line.startswith('Could not import OneDL'):
                print(line)


@contextlib.contextmanager
def quiet_build() -> Iterator[None]:
    """Hides mmseg's warnings about its own defaults and calls while a model is built."""
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', message='Default ``avg_non_ignore`` is False')
        warnings.filterwarnings('ignore', message='The draw is False')
        warnings.filterwarnings('ignore', message='``build_loss`` would be deprecated')
        yield


def import_task_library(cfg: Config) -> None:
    """Imports the library of the config's default scope, so that its modules are registered.

    Raises:
        mmwf.families.MissingPackageError: If it is not installed.
    """
    scope = cfg.get('default_scope') or 'mmengine'
    if scope not in ('mmengine', 'mmwf'):
        families.require(scope)
        with quiet_imports():
            import_module(f'{scope}.utils').register_all_modules(init_default_scope=False)
