"""``mmcv.ops`` without a compiler.

mmdet and mmseg import ``mmcv.ops``, which needs mmcv's compiled extension. When, and only when,
that extension is missing, :func:`install_mmcv_ops` gives it another content: the operations that
this project's models use come from torchvision, and every other name raises a clear error when it
is used, not when it is imported.
"""

import importlib.util
import sys
import types
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ['has_compiled_mmcv_ops', 'install_mmcv_ops']


def has_compiled_mmcv_ops() -> bool:
    """Tells whether mmcv has its compiled extension, without importing mmcv."""
    spec = importlib.util.find_spec('mmcv')
    folders = spec.submodule_search_locations if spec else []
    return any(next(Path(folder).glob('_ext.*'), None) for folder in folders)


def nms(boxes, scores, iou_threshold, offset=0, score_threshold=0, max_num=-1):
    """Non-maximum suppression with mmcv's signature.

    Args:
        boxes: (N, 4) as (x1, y1, x2, y2), tensor or NumPy array.
        scores: (N,).
        iou_threshold: Boxes that overlap a better one by more than this are dropped.
        offset: 0 or 1, what is added to widths and heights.
        score_threshold: If positive, boxes at or below it are dropped.
        max_num: If positive, the most boxes to keep.

    Returns:
        The kept boxes with their scores, (K, 5), best first, and their indices, (K,).

    Raises:
        ValueError: If the shapes or the offset are wrong.
    """
    from torchvision.ops import nms as torchvision_nms

    if not isinstance(boxes, Tensor):
        dets, keep = nms(
            torch.from_numpy(boxes),
            torch.from_numpy(scores),
            iou_threshold,
            offset,
            score_threshold,
            max_num,
        )
        return dets.numpy(), keep.numpy()
    if boxes.dim() != 2 or boxes.shape[1] != 4 or scores.shape != boxes.shape[:1]:
        raise ValueError(
            f'Expected boxes (N, 4) and scores (N,), got {tuple(boxes.shape)} and '
            f'{tuple(scores.shape)}.'
        )
    if offset not in (0, 1):
        raise ValueError(f'Expected offset 0 or 1, got {offset}.')
    shift = scores.new_tensor([0, 0, offset, offset], dtype=torch.float32)
    keep = torchvision_nms(boxes.float() + shift, scores.float(), float(iou_threshold))
    if score_threshold > 0:
        keep = keep[scores[keep] > score_threshold]
    if max_num > 0:
        keep = keep[:max_num]
    return torch.cat([boxes[keep], scores[keep, None]], dim=1), keep


def batched_nms(boxes, scores, idxs, nms_cfg, class_agnostic=False):
    """Non-maximum suppression for each class by itself, with mmcv's signature.

    Args:
        boxes: (N, 4) as (x1, y1, x2, y2).
        scores: (N,).
        idxs: (N,), the class of each box.
        nms_cfg: ``dict(type='nms', iou_threshold=...)``, perhaps with ``max_num``,
            ``score_threshold``, ``offset`` and ``class_agnostic``; None only sorts.
        class_agnostic: Whether boxes of different classes suppress each other.

    Returns:
        The kept boxes with their scores, (K, 5), best first, and their indices, (K,).

    Raises:
        ValueError: If another type of suppression is asked for.
    """
    if nms_cfg is None:
        scores, keep = scores.sort(descending=True)
        return torch.cat([boxes[keep], scores[:, None]], dim=1), keep
    cfg = dict(nms_cfg)
    cfg.pop('split_thr', None)
    kind = cfg.pop('type', 'nms')
    if kind not in ('nms', nms):
        raise ValueError(f"Expected nms type 'nms', got {kind!r}: {_NEEDS_MMCV}")
    if cfg.pop('class_agnostic', class_agnostic) or not len(boxes):
        return nms(boxes, scores, **cfg)
    # Classes are moved apart, so that they do not overlap. In fp32: fp16 would round them together.
    shifts = idxs.float() * (boxes.float().max() - boxes.float().min() + 2)
    dets, keep = nms(boxes.float() + shifts[:, None], scores, **cfg)
    return torch.cat([boxes[keep], scores[keep, None]], dim=1), keep


def roi_align(
    input, rois, output_size, spatial_scale=1.0, sampling_ratio=0, pool_mode='avg', aligned=True
):
    """RoIAlign with mmcv's signature, in fp32 where a half-precision kernel is missing.

    Args:
        input: Features, (B, C, H, W).
        rois: (N, 5): index of the image, x1, y1, x2, y2 in image pixels.
        output_size: Side or (height, width) of the result.
        spatial_scale: Feature pixels per image pixel.
        sampling_ratio: Samples along each side of a bin; 0 chooses by the size of the box.
        pool_mode: Only ``'avg'``.
        aligned: Whether pixel centres lie at half coordinates.

    Returns:
        (N, C, height, width), in the precision of ``input``.

    Raises:
        ValueError: If ``pool_mode`` is not ``'avg'``.
    """
    from torchvision.ops import roi_align as torchvision_roi_align

    if pool_mode != 'avg':
        raise ValueError(f"Expected pool_mode 'avg', got {pool_mode!r}: {_NEEDS_MMCV}")
    size = (output_size, output_size) if isinstance(output_size, int) else tuple(output_size)
    dtype = input.dtype if input.dtype in (torch.float32, torch.float64) else torch.float32
    with torch.autocast(input.device.type, enabled=False):
        out = torchvision_roi_align(
            input.to(dtype), rois.to(dtype), size, spatial_scale, sampling_ratio, aligned
        )
    return out.to(input.dtype)


class RoIAlign(nn.Module):
    """The module form of :func:`roi_align`; ``use_torchvision`` is accepted, and always true."""

    def __init__(
        self,
        output_size,
        spatial_scale=1.0,
        sampling_ratio=0,
        pool_mode='avg',
        aligned=True,
        use_torchvision=True,
    ):
        super().__init__()
        size = (output_size, output_size) if isinstance(output_size, int) else tuple(output_size)
        self.output_size = size
        self.spatial_scale = float(spatial_scale)
        self.sampling_ratio = int(sampling_ratio)
        self.pool_mode = pool_mode
        self.aligned = aligned

    def forward(self, input: Tensor, rois: Tensor) -> Tensor:
        """Maps (B, C, H, W) and (N, 5) to (N, C, height, width)."""
        return roi_align(
            input,
            rois,
            self.output_size,
            self.spatial_scale,
            self.sampling_ratio,
            self.pool_mode,
            self.aligned,
        )


def point_sample(input, points, align_corners=False, **kwargs):
    """Samples features at points, with mmcv's signature.

    Args:
        input: (N, C, H, W).
        points: (N, P, 2) or (N, h, w, 2) as (x, y) in [0, 1].
        align_corners: As in :func:`torch.nn.functional.grid_sample`, as are further arguments.

    Returns:
        (N, C, P) or (N, C, h, w).
    """
    grid = points[:, :, None] if points.dim() == 3 else points
    out = F.grid_sample(input, grid * 2 - 1, align_corners=align_corners, **kwargs)
    return out.squeeze(3) if points.dim() == 3 else out


_NEEDS_MMCV = (
    'this needs mmcv compiled with its ops, for example by "MMCV_WITH_OPS=1 pip install '
    '--no-build-isolation --no-binary onedl-mmcv onedl-mmcv" with a C++ compiler.'
)
_PROVIDED = {
    'nms': nms,
    'batched_nms': batched_nms,
    'roi_align': roi_align,
    'RoIAlign': RoIAlign,
    'point_sample': point_sample,
}
# Submodules that mmcv, mmdet and mmseg import by name.
_SUBMODULES = (
    'carafe',
    'merge_cells',
    'modulated_deform_conv',
    'multi_scale_deform_attn',
    'nms',
    'point_sample',
    'roi_align',
)


def _placeholder(name: str) -> type:
    """Makes a class that can be imported, subclassed and tested against, but not used."""

    def __init__(self, *args, **kwargs):
        raise RuntimeError(f'mmcv.ops.{name} is not available: {_NEEDS_MMCV}')

    return type(name, (nn.Module,), {'__init__': __init__, '__module__': 'mmcv.ops'})


class _OpsModule(types.ModuleType):
    """A module that has the provided operations, and a placeholder for every other name."""

    def __init__(self, name: str):
        super().__init__(name, 'Made by mmwf.compat: mmcv has no compiled ops here.')
        self.__dict__.update(_PROVIDED)

    def __getattr__(self, name: str):
        if name.startswith('_'):
            raise AttributeError(f'module {self.__name__!r} has no attribute {name!r}')
        value = _placeholder(name)
        setattr(self, name, value)
        return value


class _OpsFinder(MetaPathFinder, Loader):
    """Answers the import of ``mmcv.ops`` with the replacement."""

    def find_spec(self, fullname, path, target=None):
        return ModuleSpec(fullname, self, is_package=True) if fullname == 'mmcv.ops' else None

    def create_module(self, spec):
        return _OpsModule(spec.name)

    def exec_module(self, module):
        for name in _SUBMODULES:
            sys.modules[f'mmcv.ops.{name}'] = _OpsModule(f'mmcv.ops.{name}')


def install_mmcv_ops() -> bool:
    """Makes ``import mmcv.ops`` give the replacement, unless the compiled ops are there.

    Returns:
        Whether ``mmcv.ops`` is the replacement now.
    """
    if any(isinstance(finder, _OpsFinder) for finder in sys.meta_path):
        return True
    if 'mmcv.ops' in sys.modules or has_compiled_mmcv_ops():
        return False
    sys.meta_path.insert(0, _OpsFinder())
    return True
