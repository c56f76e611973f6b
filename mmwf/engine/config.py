"""Reading config files."""

from pathlib import Path

import yaml
from mmengine.config import Config

from mmwf.config_files import find_config
from mmwf.errors import UserError


def load_config(path: str | Path, options: dict | None = None) -> Config:
    """Reads a config file and overrides some of its settings.

    Args:
        path: As in :func:`mmwf.config_files.find_config`: a file, or a shipped config by its name.
        options: New values by dotted key, e.g. ``{'optim_wrapper.optimizer.lr': 1e-3}``.

    Raises:
        UserError: If there is no such file, or it is neither ``.py`` nor plain YAML or JSON.
    """
    file = find_config(path)
    try:
        cfg = Config.fromfile(file)
    except Exception as error:  # of any type, since a .py config is a program
        if file.suffix == '.py' and not isinstance(error, yaml.YAMLError):
            raise
        raise UserError(
            f'Cannot read the config {file}: {error}\nExpected a .py config, or a .yaml, .yml or '
            '.json file of plain values.'
        ) from error
    if options:
        cfg.merge_from_dict(options)
    return cfg


def compile_backbone(cfg: Config) -> None:
    """Sets ``compile=True`` in the config's WeightFormer backbone.

    Raises:
        UserError: If the model has none.
    """
    backbone = cfg.get('model', {}).get('backbone') or {}
    if str(backbone.get('type')).rpartition('.')[2] != 'WeightFormer':
        raise UserError(
            'Expected a config whose model.backbone is mmwf.WeightFormer, the only one that can be '
            f'compiled; got {backbone.get("type", "none")}.'
        )
    backbone.compile = True


def default_work_dir(cfg: Config, config_path: str, work_dir: str | None) -> str:
    """Returns the work dir: ``work_dir`` if given, else the config's, else ``work_dirs/NAME``.

    Args:
        cfg: The config.
        config_path: Its path; NAME is its stem.
        work_dir: The work dir from the command line.
    """
    return work_dir or cfg.get('work_dir') or str(Path('work_dirs') / Path(config_path).stem)
