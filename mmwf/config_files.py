"""The shipped configs by path or name, for mmwf and for MMEngine and mmpretrain.

:func:`install`, which ``import mmwf`` calls, lets MMEngine find ``mmwf::FOLDER/NAME.py``, and
mmseg's configs in either family of packages; and it adds our classifiers to mmpretrain's model zoo.
"""

import difflib
import functools
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path

from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE

from . import families
from .errors import UserError
from .libraries import after_import

#: The package in front of a config's path, as OpenMMLab writes it.
PREFIX = 'mmwf::'
#: Names of the configs whose weights the authors of the paper have published, and where.
PUBLISHED = {
    'weightformer-tiny-p16_8xb256_in1k': 'hf://RuizeHe/weightformer-t',
    'weightformer-small-p16_8xb256_in1k': 'hf://RuizeHe/weightformer-s',
    'weightformer-base-p16_8xb256_in1k-448px': 'hf://RuizeHe/weightformer-b',
}


def config_root() -> Path:
    """Returns the folder of the shipped configs, in a checkout or in the installed wheel."""
    package = Path(__file__).parent
    in_wheel = package / '.mim' / 'configs'
    return in_wheel if in_wheel.is_dir() else package.parent / 'configs'


def shipped_configs() -> dict[str, Path]:
    """Maps the name of each shipped config to its file.

    The name is that of the file without ``.py``. If files in several folders share it, the folder
    comes before it: ``detection/example_own-dataset``.
    """
    root = config_root()
    paths = [path.relative_to(root).with_suffix('') for path in sorted(root.rglob('*.py'))]
    paths = [path for path in paths if path.parts[0] != '_base_']
    counts = Counter(path.name for path in paths)
    return {
        path.name if counts[path.name] == 1 else path.as_posix(): root / f'{path}.py'
        for path in paths
    }


def list_models(pattern: str = '*') -> list[str]:
    """Lists the names of the shipped configs, for :func:`mmwf.get_model` and for all commands.

    Args:
        pattern: Shell-style pattern for the name, e.g. ``'upernet*'``.
    """
    return sorted(name for name in shipped_configs() if fnmatchcase(name, pattern))


def find_config(path: str | Path) -> Path:
    """Finds a config file.

    Args:
        path: A file. Or a shipped config, whatever the current folder is: its name
            (:func:`list_models`), ``mmwf::FOLDER/NAME.py`` or ``configs/FOLDER/NAME.py``.

    Raises:
        UserError: If there is no such config; the message suggests similar names.
    """
    if Path(path).is_file():
        return Path(path)
    text, shipped = str(path), shipped_configs()
    prefix = next((p for p in (PREFIX, 'configs/') if text.startswith(p)), '')
    name = text.removeprefix(prefix)
    if prefix and (file := config_root() / name).is_file():
        return file
    if prefix == PREFIX:
        name = name.removesuffix('.py')
    if prefix != 'configs/' and name in shipped:
        return shipped[name]
    close = _close_names(name, shipped)
    if prefix or text.endswith('.py'):
        prefix = prefix or 'configs/'
        close = [f'{prefix}{shipped[n].relative_to(config_root()).as_posix()}' for n in close]
    hint = 'mmwf.list_models() in Python lists them.'
    if close:
        hint = f'Did you mean {" or ".join(close)}?'
    raise UserError(f'There is no config {text}. {hint}')


def _close_names(name: str, shipped: Iterable[str]) -> list[str]:
    """Returns the names of shipped configs that are similar to a name, without their folders."""
    by_stem = defaultdict(list)
    for known in shipped:
        by_stem[known.rpartition('/')[2]].append(known)
    stem = name.rpartition('/')[2].removesuffix('.py')
    close = difflib.get_close_matches(stem, by_stem, n=3, cutoff=0.3)
    return [known for match in close for known in by_stem[match]]


def published_weights(file: str | Path | None) -> str:
    """Returns the address of the weights that are published for a shipped config.

    Args:
        file: The file of the config, or None if it has none.

    Raises:
        UserError: If there are none.
    """
    name = Path(file).stem if file else 'without a file'
    if name in PUBLISHED and Path(file).resolve() == shipped_configs()[name].resolve():
        return PUBLISHED[name]
    raise UserError(
        f'No weights are published for the config {name}, only for {", ".join(PUBLISHED)} as they '
        'come with mmwf. Expected a checkpoint: a file, a URL or hf://OWNER/NAME.'
    )


def _use_installed_distributions() -> None:
    """Tells MMEngine which distributions provide the libraries: it knows upstream's names only.

    With the maintained line it would not find the configs of mmseg, since no mmsegmentation is
    installed.
    """
    for package in MODULE2PACKAGE.keys() & families.MAINTAINED.keys():
        if found := families.find_distribution(package):
            MODULE2PACKAGE[package] = found.name


def _resolve_bases() -> None:
    """Lets ``_base_ = 'mmwf::FOLDER/NAME.py'`` name a shipped config.

    MMEngine's way would build everything in the scope of the package. Our configs are written for
    the scope of their task, which is their ``default_scope``.
    """
    get_cfg_path = Config._get_cfg_path

    @functools.wraps(get_cfg_path)
    def get_cfg_path_or_ours(cfg_path, filename):
        if cfg_path.startswith(PREFIX):
            return str(find_config(cfg_path)), None
        return get_cfg_path(cfg_path, filename)

    Config._get_cfg_path = staticmethod(get_cfg_path_or_ours)


def _add_to_hub() -> None:
    """Lets ``mmengine.hub.get_config('mmwf::FOLDER/NAME.py')`` read a shipped config."""
    package = sys.modules['mmengine.hub']
    get_config = package.get_config

    @functools.wraps(get_config)
    def get_config_or_ours(cfg_path, pretrained=False):
        if not cfg_path.startswith(PREFIX):
            return get_config(cfg_path, pretrained)
        file = find_config(cfg_path)
        cfg = Config.fromfile(file)
        if pretrained:
            cfg.model_path = published_weights(file)
        return cfg

    package.get_config = package.hub.get_config = get_config_or_ours


def _add_to_mmpretrain() -> None:
    """Adds our classifiers to the names of ``mmpretrain.list_models`` and its inferencers."""
    from modelindex.models.Model import Model

    models = sys.modules['mmpretrain.apis.model'].ModelHub._models_dict
    for name, file in shipped_configs().items():
        if file.parent.name in ('classification', 'predictors'):
            models[name] = Model(name=name, config=str(file), weights=PUBLISHED.get(name))


def install() -> None:
    """Makes MMEngine and mmpretrain find the shipped configs."""
    _use_installed_distributions()
    _resolve_bases()
    after_import('mmengine.hub', _add_to_hub)
    after_import('mmpretrain.apis.model', _add_to_mmpretrain)
