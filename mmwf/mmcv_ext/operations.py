"""The operations of the stand-in for ``mmcv._ext``, made by mmwf: mmcv is not compiled here.

Signatures are those with which mmcv's Python files call them: results are written into tensors
that the caller has allocated.
"""

import torchvision  # noqa: F401 (registers torch.ops.torchvision)

from . import (
    attention,
    correlation,
    deform_conv,
    focal_loss,
    precise_roi_pool,
    reassembly,
    rois,
    rotated_boxes,
    rotated_rois,
    suppression,
    sync_bn,
    text,
)


def get_compiler_version() -> str:
    """What ``collect_env`` prints as mmcv's compiler."""
    return 'none (mmwf.mmcv_ext)'


def get_compiling_cuda_version() -> str:
    """What ``collect_env`` prints as the CUDA version that mmcv was compiled with."""
    return 'none (mmwf.mmcv_ext)'


_FAMILIES = (
    attention,
    correlation,
    deform_conv,
    focal_loss,
    precise_roi_pool,
    reassembly,
    rois,
    rotated_boxes,
    rotated_rois,
    suppression,
    sync_bn,
    text,
)
#: Name in ``mmcv._ext`` to function: the public functions of each family.
OPERATIONS = {
    name: value
    for family in _FAMILIES
    for name, value in vars(family).items()
    if not name.startswith('_') and getattr(value, '__module__', '') == family.__name__
} | {
    'get_compiler_version': get_compiler_version,
    'get_compiling_cuda_version': get_compiling_cuda_version,
}
