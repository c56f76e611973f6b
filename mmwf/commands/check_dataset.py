"""``mmwf check-dataset``: checks that the data of a config fit its model."""

import argparse

from mmwf.datasets.checks import CHECKS, check_datasets
from mmwf.engine.config import load_config
from mmwf.errors import UserError

from ._common import add_config_arguments


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Check that the data of a config exist, can be read and fit its model.'
    )
    add_config_arguments(parser, 'train_dataloader.dataset.data_root=DIR')
    parser.add_argument(
        '--max-images',
        type=int,
        metavar='N',
        help='check N images, evenly spaced in each dataset (default: all)',
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Runs the command."""
    args = parse_args(argv)
    if args.max_images is not None and args.max_images < 1:
        raise UserError(f'Expected --max-images of 1 or more, got {args.max_images}.')
    cfg = load_config(args.config, args.cfg_options)
    if cfg.get('default_scope') not in CHECKS:
        raise UserError(
            f'Expected a config of {" or ".join(CHECKS)}, got {cfg.get("default_scope")}.'
        )
    print('\n\n'.join(check_datasets(cfg, max_images=args.max_images)))
