"""``tools/analysis_tools/check_dataset.py``: finds data that do not fit their config."""

import argparse
import os
from importlib import import_module

from mmengine.config import Config, DictAction
from mmengine.registry import DefaultScope

from . import environment
from .check_coco import check_coco
from .environment import LOADERS, UserError

SAMPLE = 50  # images of each loader that training looks into


def _check_detection(cfg: Config, loader: str, max_images: int | None) -> str:
    check_coco(cfg, (loader,))
    return f'{loader}: the annotations, all of them, fit the model and the images.'


def _check_segmentation(*args) -> str:
    return import_module('mmwf.apis.check_segmentation').check_segmentation(*args)


def _check_classification(*args) -> str:
    return import_module('mmwf.apis.check_classification').check_classification(*args)


#: For each default scope, what checks a data loader. The scope's library is imported when needed.
CHECKS = {
    'mmpretrain': _check_classification,
    'mmdet': _check_detection,
    'mmseg': _check_segmentation,
}


def check_datasets(
    cfg: Config, loaders: tuple[str, ...] = LOADERS, max_images: int | None = None
) -> list[str]:
    """Checks the data of some loaders against the model of their config.

    One process of each machine does it.

    Args:
        cfg: The config.
        loaders: Their names; those that the config does not have are left out.
        max_images: How many images to look into, taken evenly; by default all. COCO's annotations
            are always read as a whole.

    Returns:
        A report for each loader; none if there is no check for the config's default scope.

    Raises:
        UserError: If the data are missing or do not fit.
    """
    environment.check_data(cfg, loaders)
    scope = cfg.get('default_scope')
    if scope not in CHECKS or os.environ.get('LOCAL_RANK', '0') != '0':
        return []
    environment.import_task_library(cfg)
    with DefaultScope.overwrite_default_scope(scope):
        return [CHECKS[scope](cfg, loader, max_images) for loader in loaders if cfg.get(loader)]


def main(argv: list[str] | None = None) -> None:
    """Runs ``tools/analysis_tools/check_dataset.py``."""
    parser = argparse.ArgumentParser(description='Check data against the config that uses them.')
    parser.add_argument('config', help='config file')
    parser.add_argument('--max-images', type=int, metavar='N', help='look into N images, not all')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE', help='as in train.py'
    )
    args = parser.parse_args(argv)
    if args.max_images is not None and args.max_images < 1:
        raise UserError(f'Expected --max-images of 1 or more, got {args.max_images}.')
    cfg = environment.load_config(args.config, args.cfg_options)
    if cfg.get('default_scope') not in CHECKS:
        raise UserError(
            f'Expected a config of {" or ".join(CHECKS)}, got {cfg.get("default_scope")}.'
        )
    print('\n\n'.join(check_datasets(cfg, max_images=args.max_images)))
