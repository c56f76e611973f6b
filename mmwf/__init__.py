"""mmwf: WeightFormer for OpenMMLab."""

from . import families

# Before the imports below, which need MMEngine.
families.require('mmengine', 'mmcv')
families.warn_if_mixed()

from . import checkpoints, libraries, mmcv_ext, panopticapi, placeholders, yaml_files  # noqa: E402
from .version import __version__  # noqa: E402

__all__ = ['__version__']

# Must come before mmdet and mmseg, which import mmcv.ops and panopticapi.
mmcv_ext.install()
panopticapi.install()
# From here on MMEngine, too, writes local files completely or not at all, ...
checkpoints.install_writer()
# ... and reads checkpoints and YAML without executing code in them.
yaml_files.install()
libraries.after_import('mmengine.runner.checkpoint', checkpoints.install)
# Configs may write type='WeightFormer' without a scope.
placeholders.register()
