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


def check_data(cfg: Config, loaders: tuple[str, ...]) -> None:
    """Checks that the files and folders of the given data loaders exist.

    Raises:
        UserError: If annotations or proposals are pickled, or a file or folder is missing. The
            message gives its path and the config's ``data_help``, which says how to get the data.
    """
    for name in loaders:
        datasets = list(unwrap(cfg[name].dataset)) if cfg.get(name) else []
        for dataset in datasets:
            _check_format(name, dataset)
        for path in chain.from_iterable(map(_data_paths, datasets)):
            if not path.exists():
                raise UserError(
                    f'{name} expects {path}, which does not exist (looked at {path.absolute()}).\n'
                    + cfg.get('data_help', f'Put the data there, or set {name}.dataset.data_root.')
                )
