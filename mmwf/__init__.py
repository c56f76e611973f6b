"""mmwf: WeightFormer for OpenMMLab."""

from . import compat, registry
from .version import __version__

__all__ = ['__version__']

# mmdet and mmseg import mmcv.ops; it must be there before them.
compat.install_mmcv_ops()
registry.register_on_first_use('LayerNorm2d')
registry.register_on_first_use('SimpleFPN')
registry.register_on_first_use('WeightFormer')
