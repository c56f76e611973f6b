"""The OpenMMLab libraries, imported when a config needs them."""

import contextlib
import io
import warnings
from collections.abc import Iterator
from importlib import import_module

from mmengine.config import Config
from mmengine.logging import MMLogger


@contextlib.contextmanager
def quiet_imports() -> Iterator[None]:
    """Keeps known chatter of other packages' imports off the screen, and nothing else."""
    MMLogger.get_current_instance()  # its handler must hold the real stdout
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


def import_task_library(cfg: Config) -> None:
    """Imports the library of the config's default scope, which registers what the config names."""
    import_module('mmwf.checkpoint')  # makes MMEngine read checkpoints safely
    scope = cfg.get('default_scope') or 'mmengine'
    if scope not in ('mmengine', 'mmwf'):
        with quiet_imports():
            import_module(f'{scope}.utils').register_all_modules(init_default_scope=False)
