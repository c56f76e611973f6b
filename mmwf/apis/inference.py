"""Loading models."""

import logging
from copy import deepcopy
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import print_log
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from mmwf.checkpoints import check_checkpoint, match_keys, read_checkpoint
from mmwf.engine.config import load_config
from mmwf.errors import UserError
from mmwf.libraries import import_task_library, quiet_build


def init_model(
    config: str | Path | Config,
    checkpoint: str | None = None,
    device: str | torch.device | None = None,
) -> nn.Module:
    """Builds the model of a config in evaluation mode and loads its weights.

    Args:
        config: A config of any task, the path of its file, or the name of a shipped one.
        checkpoint: A training checkpoint or released weights (see
            :func:`mmwf.checkpoints.read_checkpoint`). If the training averaged the weights (EMA),
            the averaged ones are loaded. Default: random weights, without ``init_cfg``.
        device: Default: the GPU if there is one, else the CPU.

    Returns:
        The model, e.g. mmpretrain's ``ImageClassifier`` or ``mmwf.GaussianDiffusion``, with
        ``model.cfg``, the config, and ``model.dataset_meta``, that of the checkpoint or None.

    Raises:
        UserError: If the config or the checkpoint does not exist, or the weights do not match the
            model exactly.
    """
    cfg = config if isinstance(config, Config) else load_config(config)
    if checkpoint is not None:
        check_checkpoint(checkpoint)
    import_task_library(cfg)
    model_cfg = deepcopy(cfg.model)
    if 'data_preprocessor' in cfg:
        model_cfg.setdefault('data_preprocessor', deepcopy(cfg.data_preprocessor))
    scope = cfg.get('default_scope') or 'mmengine'
    with quiet_build(), DefaultScope.overwrite_default_scope(scope):
        model = MODELS.build(model_cfg)
    model.cfg, model.dataset_meta = cfg, None
    if checkpoint is not None:
        load_weights(model, checkpoint)
    return model.eval().to(device or get_device())


def load_weights(model: nn.Module, checkpoint: str, new_classes: bool = False) -> None:
    """Loads the weights of a checkpoint, and sets ``model.dataset_meta``.

    Args:
        model: A model of :func:`init_model`.
        checkpoint: As there.
        new_classes: Whether the model may have another number of classes. Weights outside the
            backbone whose shapes differ are then left as they are, and named in a warning.

    Raises:
        UserError: If the weights do not match the model exactly.
    """
    content = read_checkpoint(checkpoint)
    expected, state_dict = model.state_dict(), dict(content['state_dict'])
    kept = {
        key: value
        for key, value in expected.items()
        if new_classes
        and not key.startswith('backbone.')
        and key in state_dict
        and state_dict[key].shape != value.shape
    }
    match = match_keys(expected, state_dict | kept)
    if not match.is_exact:
        raise UserError(f'{checkpoint} does not fit the model of the config: {match}.')
    model.load_state_dict(state_dict | kept)
    model.dataset_meta = None if kept else content.get('meta', {}).get('dataset_meta')
    model._is_init = True  # so that MMEngine's Runner does not initialize it anew
    if kept:
        print_log(
            f'{checkpoint}: loaded all weights but {", ".join(kept)}, which stay random, since the '
            'number of classes differs.',
            logger='current',
            level=logging.WARNING,
        )
