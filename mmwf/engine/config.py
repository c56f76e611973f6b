"""Reading config files."""

import ast
import os
import traceback
from pathlib import Path

import yaml
from mmengine.config import Config

from mmwf.config_files import find_config
from mmwf.errors import UserError, did_you_mean

from .config_checks import check_options


def load_config(path: str | Path, options: dict | None = None) -> Config:
    """Reads a config file and overrides some of its settings.

    Args:
        path: As in :func:`mmwf.config_files.find_config`: a file, or a shipped config by its name.
        options: New values by dotted key, e.g. ``{'optim_wrapper.optimizer.lr': 1e-3}``.

    Raises:
        UserError: If there is no such file, it cannot be read, or it has no place for an option.
    """
    file = find_config(path)
    try:
        cfg = Config.fromfile(file)
    except UserError:
        raise
    except Exception as error:  # of any type, since a .py config is a program
        if file.suffix == '.py' and not isinstance(error, yaml.YAMLError):
            raise UserError(_describe_failure(file, error)) from error
        raise UserError(
            f'Cannot read the config {file}: {error}\nExpected a .py config, or a .yaml, .yml or '
            '.json file of plain values.'
        ) from error
    if options:
        check_options(cfg, options)
        cfg.merge_from_dict(options)
    return cfg


def _describe_failure(file: Path, error: Exception) -> str:
    """Says in which file, the config or one of its bases, and in which line it is wrong."""
    sources, line = [str(file)], None
    for frame, number in traceback.walk_tb(error.__traceback__):
        code = frame.f_code
        if code.co_name in ('_file2dict', '_is_lazy_import', '_parse_lazy_import'):
            sources.append(frame.f_locals['filename'])
            line = None
        elif code.co_filename == sources[-1]:
            line = number
    source = os.path.normpath(sources[-1])
    if isinstance(error, FileNotFoundError) and not os.path.exists(source):
        children = [path for path in sources if os.path.normpath(path) != source]
        others = (path.name for path in Path(source).parent.glob('*.py'))
        hint = did_you_mean(Path(source).name, others)
        return f'{children[-1]} inherits from {source}, which does not exist.{hint}'
    while isinstance(error, ImportError) and isinstance(error.__context__, ImportError):
        error = error.__context__  # the first one says what is missing, MMEngine's lists sys.path
    message = f'{type(error).__name__}: {error}'
    if isinstance(error, SyntaxError):
        try:
            ast.parse(Path(source).read_text())
        except SyntaxError as found:  # with the line, which MMEngine's has not
            line, message = found.lineno, f'{found.msg}: {(found.text or "").strip()}'
    place = source if line is None else f'{source}, line {line}'
    return f'Cannot read the config {place}: {message.splitlines()[0]}'


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
