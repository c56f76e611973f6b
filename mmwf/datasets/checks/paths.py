"""Checks that the files and folders of a config exist."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from mmengine.config import Config

from mmwf.errors import UserError

from .wrappers import unwrap


def _data_paths(dataset: dict) -> Iterator[Path]:
    """Yields the files and folders named in a dataset config without wrappers."""
    root = Path(dataset.get('data_root') or '')
    if dataset.get('data_root'):
        yield root
    prefix = dataset.get('data_prefix') or dataset.get('split') or ''
    for part in prefix.values() if isinstance(prefix, dict) else [prefix]:
        if part:
            yield root / part
    if dataset.get('ann_file'):
        yield root / dataset['ann_file']


def _check_format(name: str, dataset: dict) -> None:
    """Refuses pickles, such as annotations, since reading them runs code in them."""
    for key, path in dataset.items():
        if isinstance(path, str) and path.endswith(('.pkl', '.pickle')):
            raise UserError(
                f'{name}.dataset.{key} is the pickle {path}, which can run any code. If you trust '
                'it, write it as JSON instead: mmengine.dump(mmengine.load(FILE), NEW_FILE).'
            )


def _help(cfg: Config, name: str, path: Path) -> str:
    """Returns the help on the missing data, if the config has some on data at this place."""
    texts = cfg.get('data_help') or {}
    if isinstance(texts, str):
        return texts
    found = [text for root, text in texts.items() if path.is_relative_to(root)]
    return found[0] if found else f'Put the data there, or set {name}.dataset.data_root.'


def check_data(cfg: Config, loaders: tuple[str, ...]) -> None:
    """Checks that the files and folders of the given data loaders exist.

    Raises:
        UserError: If annotations or proposals are pickled, or a file or folder is missing. The
            message gives its path and, from the config's ``data_help``, how to get the data: a
            text, or a dict with a text for each ``data_root``, which is not shown for other data.
    """
    for name in loaders:
        datasets = list(unwrap(cfg[name].dataset)) if cfg.get(name) else []
        for dataset in datasets:
            _check_format(name, dataset)
        for path in chain.from_iterable(map(_data_paths, datasets)):
            if not path.exists():
                raise UserError(
                    f'{name} expects {path}, which does not exist (looked at {path.absolute()}).\n'
                    + _help(cfg, name, path)
                )
