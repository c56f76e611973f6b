"""How metrics were computed, to be stored beside them."""

from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.device import get_device

from mmwf import families
from mmwf.files import hash_file
from mmwf.version import __version__

PACKAGES = ('mmengine', 'mmcv', 'mmdet', 'mmseg', 'mmpretrain')


def describe_versions() -> dict[str, str]:
    """Returns the versions of this package and of those that metrics depend on."""
    names = [name for name in PACKAGES if families.find_distribution(name)]
    return dict(
        mmwf=__version__,
        torch=torch.__version__,
        numpy=np.__version__,
        **{name: families.describe(name) for name in names},
    )


def _plain(value):
    """Returns a part of a config as what JSON can hold."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    is_plain = value is None or isinstance(value, (bool, int, float, str))
    return value if is_plain else str(value)


def describe_test(
    cfg: Config, checkpoint: str | Path, *, command: str, tta: bool, num_images: int, processes: int
) -> dict:
    """Describes how a model is tested.

    Args:
        cfg: The config as it was run, with test-time augmentation in it.
        checkpoint: The local file of the weights.
        command: The command that was run.
        tta: Whether test-time augmentation was used.
        num_images: Number of test images.
        processes: Number of processes.

    Returns:
        What JSON can hold: ``command``, ``checkpoint`` and its SHA-256, ``pipeline`` (with the
        sizes of the images), ``test_cfg`` of the model (thresholds; ``mode='whole'`` or
        ``'slide'`` for segmentation), ``tta`` (its settings, or False), ``evaluator``,
        ``num_images``, ``batch_size``, ``processes``, ``device``, ``matmul_precision`` and
        ``versions``.
    """
    model = cfg.model.get('module', cfg.model)
    augmentation = {k: v for k, v in cfg.model.items() if k != 'module'} if tta else False
    device = get_device()
    return _plain(
        dict(
            command=command,
            checkpoint=str(checkpoint),
            checkpoint_sha256=hash_file(checkpoint),
            pipeline=cfg.test_dataloader.dataset.get('pipeline'),
            data_preprocessor=model.get('data_preprocessor') or cfg.get('data_preprocessor'),
            test_cfg=model.get('test_cfg'),
            tta=augmentation,
            evaluator=cfg.get('test_evaluator'),
            num_images=num_images,
            batch_size=cfg.test_dataloader.batch_size,
            processes=processes,
            device=torch.cuda.get_device_name() if device == 'cuda' else device,
            matmul_precision=torch.get_float32_matmul_precision(),
            versions=describe_versions(),
        )
    )
