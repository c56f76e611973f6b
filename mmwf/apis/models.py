"""Building the model of a shipped config by its name, with other settings and published weights."""

import inspect
from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import MODELS
from torch import nn

from mmwf.checkpoints import check_checkpoint
from mmwf.config_files import published_weights
from mmwf.engine.config import load_config
from mmwf.errors import UserError, did_you_mean
from mmwf.libraries import import_task_library

from .inference import init_model, load_weights


def get_model(
    config: str | Path | Config,
    pretrained: bool | str | Path | None = None,
    device: str | torch.device | None = None,
    **overrides: Any,
) -> nn.Module:
    """Builds the model of a config in evaluation mode, and loads its weights.

    Args:
        config: The name of a shipped config (:func:`mmwf.list_models`), the path of a config, or a
            config.
        pretrained: True for the weights that the authors of the paper have published for this
            config; or a checkpoint as in :func:`mmwf.checkpoints.read_checkpoint`: a file, a URL or
            ``hf://OWNER/NAME[@REVISION]``. Default: random weights, without ``init_cfg``.
        device: Default: the GPU if there is one, else the CPU.
        overrides: Other settings of the model. Each keyword is one of

            - ``num_classes``, of all heads. Weights whose shape depends on it are not taken from
              ``pretrained``, but stay random; a warning names them.
            - a part of the model, such as ``head`` or ``neck``; a dict is merged into the config's.
            - an argument of the backbone (for image generation, of the denoiser), such as
              ``out_indices`` or ``drop_path_rate``.

    Returns:
        The model, as :func:`.init_model` returns it.

    Raises:
        UserError: If there is no such config or checkpoint, no weights are published for the
            config, the weights do not fit, or a keyword is none of the above.
        ValueError: If a value is not valid for the backbone.
    """
    cfg = deepcopy(config) if isinstance(config, Config) else load_config(config)
    if pretrained is True:
        pretrained = published_weights(cfg.filename)
    if pretrained:
        check_checkpoint(str(pretrained))
    import_task_library(cfg)
    _override(cfg, overrides)
    model = init_model(cfg, device='cpu')
    if pretrained:
        load_weights(model, str(pretrained), new_classes='num_classes' in overrides)
    return model.to(device or get_device())


def _override(cfg: Config, overrides: Mapping[str, Any]) -> None:
    """Writes the keywords of :func:`get_model` into a config."""
    if 'data_preprocessor' in cfg:
        cfg.model.setdefault('data_preprocessor', deepcopy(cfg.data_preprocessor))
    trunk = 'denoiser' if 'denoiser' in cfg.model else 'backbone'
    for key, value in overrides.items():
        if key == 'num_classes':
            _set_num_classes(cfg, value)
        elif key in cfg.model:
            cfg.merge_from_dict(dict(model={key: value}))
        else:
            _check_argument(cfg, trunk, key)
            cfg.model[trunk][key] = value


def _dicts(value: Any) -> Iterator[dict]:
    """Yields a dict, and all dicts in it or in a list."""
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for child in value:
            yield from _dicts(child)


def _set_num_classes(cfg: Config, num_classes: int) -> None:
    """Sets ``num_classes`` wherever the model has it, in the data preprocessor too."""
    parts = list(_dicts(cfg.model))
    with_classes = [part for part in parts if 'num_classes' in part]
    if not with_classes or any(isinstance(p.get('class_weight'), list) for p in parts):
        raise UserError(
            'num_classes cannot be changed by itself in this model: other settings (such as '
            'class_weight or num_things_classes) depend on it. Write a config that inherits from '
            f'{cfg.filename or "this one"} and sets them all.'
        )
    for part in with_classes:
        part['num_classes'] = num_classes


def _check_argument(cfg: Config, trunk: str, key: str) -> None:
    """Checks that the backbone has an argument.

    Raises:
        UserError: If it does not; the message suggests similar names.
    """
    part = cfg.model.get(trunk, {})
    with MODELS.switch_scope_and_registry(cfg.get('default_scope')) as registry:
        found = registry.get(part['type']) if 'type' in part else None
    parameters = inspect.signature(found).parameters if found else {}
    if key in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    parts = [name for name, value in cfg.model.items() if name != 'type']
    hint = did_you_mean(key, ['num_classes', *parts, *parameters])
    raise UserError(
        f'Expected each keyword to be num_classes, a part of the model ({", ".join(parts)}) or an '
        f'argument of its {trunk} {getattr(found, "__name__", "")}, got {key}.{hint}'
    )
