"""mmwf: WeightFormer for OpenMMLab."""

from importlib import import_module

from . import families

# Before the imports below, which need MMEngine.
families.require('mmengine', 'mmcv')
families.warn_if_mixed()

from . import (  # noqa: E402
    checkpoints,
    config_files,
    libraries,
    mmcv_ext,
    panopticapi,
    placeholders,
    yaml_files,
)
from .config_files import list_models  # noqa: E402
from .version import __version__  # noqa: E402

__all__ = ['__version__', 'get_model', 'list_models']

# Must come before mmdet and mmseg, which import mmcv.ops and panopticapi.
mmcv_ext.install()
panopticapi.install()
# From here on MMEngine, too, writes local files completely or not at all, ...
checkpoints.install_writer()
# ... and reads checkpoints and YAML without executing code in them.
yaml_files.install()
libraries.after_import('mmengine.runner.checkpoint', checkpoints.install)
# Configs may write type='WeightFormer' without a scope, ...
placeholders.register()
# ... and MMEngine and mmpretrain find our configs by name, ...
config_files.install()
# ... and timm our models.
libraries.after_import('timm.models', lambda: import_module('mmwf.timm_models'))
# type='LoadImageFromFile' is ours in every library, so that their inferencers, which look for this
# name, run on our configs.
libraries.after_import('mmcv.transforms', lambda: import_module('mmwf.datasets.transforms'))
libraries.after_import(
    'mmpretrain.datasets.transforms',
    lambda: import_module('mmwf.datasets.transforms').register_in_mmpretrain(),
)


def __getattr__(name: str):
    """Imports ``get_model``, which takes a second, when it is first used."""
    if name == 'get_model':
        from .apis import get_model

        return get_model
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
