"""Finding and reading config files."""

import difflib
from pathlib import Path

import yaml
from mmengine.config import Config

import mmwf
from mmwf.errors import UserError


def config_root() -> Path:
    """Returns the folder of the shipped configs, in a checkout or in the installed wheel."""
    package = Path(mmwf.__file__).parent
    folders = (package.parent / 'configs', package / '.mim' / 'configs')
    return next((folder for folder in folders if folder.is_dir()), folders[0])


def find_config(path: str | Path) -> Path:
    """Finds a config file.

    Args:
        path: A file, or ``configs/...`` for a shipped config, whatever the current folder is.

    Raises:
        UserError: If there is no such file; the message suggests similar names.
    """
    path, root = Path(path), config_root()
    if path.is_file():
        return path
    if path.parts[:1] == ('configs',) and (shipped := root.joinpath(*path.parts[1:])).is_file():
        return shipped
    by_name = {p.name: p for p in root.rglob('*.py') if '_base_' not in p.parts}
    close = difflib.get_close_matches(path.name, by_name, n=3, cutoff=0.3)
    similar = ' or '.join(f'configs/{by_name[name].relative_to(root)}' for name in close)
    hint = f' Did you mean {similar}?' if close else ''
    raise UserError(f'There is no config {path}.{hint}')


def load_config(path: str | Path, options: dict | None = None) -> Config:
    """Reads a config file and overrides some of its settings.

    Args:
        path: As in :func:`find_config`.
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
