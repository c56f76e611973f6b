"""mmwf: WeightFormer for OpenMMLab."""

from . import checkpoints, compat, libraries, registry
from .version import __version__

__all__ = ['__version__']

# Must come before mmdet and mmseg, which import mmcv.ops.
compat.install_mmcv_ops()
# From here on MMEngine, too, reads checkpoints without executing code in them.
libraries.after_import('mmengine.runner.checkpoint', checkpoints.install)
# Lets configs write type='WeightFormer' without a scope.
registry.register_on_first_use('LayerNorm2d')
registry.register_on_first_use('SimpleFPN')
registry.register_on_first_use('WeightFormer')
