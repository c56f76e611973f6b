"""Checkpoints of the quick start's models with random weights."""

from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from mmwf.libraries import import_task_library

QUICKSTART = Path(__file__).parents[1] / 'configs/quickstart'


def save_model(cfg: Config, folder: Path, dataset_meta: dict | None = None) -> tuple[str, str]:
    """Writes a config, and a checkpoint of its model with random weights.

    Args:
        cfg: The config.
        folder: Output folder.
        dataset_meta: What the checkpoint says about the classes.

    Returns:
        The paths of the config and the checkpoint.
    """
    import_task_library(cfg)
    model_cfg = dict(cfg.model)
    if 'data_preprocessor' in cfg:
        model_cfg['data_preprocessor'] = cfg.data_preprocessor
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(model_cfg)
    meta = dict(dataset_meta=dataset_meta) if dataset_meta else {}
    torch.save(dict(state_dict=model.state_dict(), meta=meta), folder / 'model.pth')
    cfg.dump(folder / 'config.py')
    return str(folder / 'config.py'), str(folder / 'model.pth')


def make_checkpoint(pattern: str, classes: list[str], folder: Path, **options) -> tuple[str, str]:
    """As :func:`save_model`, for the config of the quick start that matches a pattern.

    Args:
        pattern: Name of the config with wildcards.
        classes: Names of the classes.
        folder: Output folder.
        options: Settings of the config by dotted keys, with ``__`` in place of the dots.
    """
    (path,) = QUICKSTART.glob(pattern)
    cfg = Config.fromfile(path)
    cfg.model.backbone.init_cfg = None
    cfg.merge_from_dict({key.replace('__', '.'): value for key, value in options.items()})
    palette = [[20 * i, 0, 0] for i in range(len(classes))]
    return save_model(cfg, folder, dict(classes=classes, palette=palette))
