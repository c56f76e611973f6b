"""``tools/analysis_tools/check_dataset.py``: finds data that do not fit their config."""

import argparse
from importlib import import_module

from mmengine.config import Config, DictAction
from mmengine.registry import DefaultScope

from mmwf.datasets import DataError

from . import environment
from .environment import LOADERS, UserError

#: What checks a data loader: for each default scope, a module and its function.
CHECKS = {
    'mmpretrain': ('checks_classification', 'check_classification'),
    'mmseg': ('checks_segmentation', 'check_segmentation'),
}


def check_datasets(
    cfg: Config, loaders: tuple[str, ...], max_images: int | None = None
) -> list[str]:
    """Checks the data of some loaders against the model of their config.

    Args:
        cfg: The config.
        loaders: Out of ``LOADERS``.
        max_images: How many images to look into, taken evenly; by default all.

    Returns:
        A report for each loader; none if there is no check for the config's default scope.

    Raises:
        UserError: If the data are missing or do not fit.
    """
    environment.check_data(cfg, loaders)
    scope = cfg.get('default_scope')
    if scope not in CHECKS:
        return []
    environment.import_task_library(cfg)
    module, function = CHECKS[scope]
    check = getattr(import_module(f'mmwf.datasets.{module}'), function)
    with DefaultScope.overwrite_default_scope(scope):
        try:
            return [check(cfg, loader, max_images) for loader in loaders if cfg.get(loader)]
        except DataError as error:
            raise UserError(str(error)) from error


def main(argv: list[str] | None = None) -> None:
    """Runs ``tools/analysis_tools/check_dataset.py``."""
    parser = argparse.ArgumentParser(description='Check data against the config that uses them.')
    parser.add_argument('config', help='config file')
    parser.add_argument('--max-images', type=int, metavar='N', help='look into N images, not all')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE', help='as in train.py'
    )
    args = parser.parse_args(argv)
    cfg = environment.load_config(args.config, args.cfg_options)
    reports = check_datasets(cfg, LOADERS, args.max_images)
    if not reports:
        raise UserError(f'Expected a config of {" or ".join(CHECKS)}, got {cfg.default_scope}.')
    print('\n\n'.join(reports))
