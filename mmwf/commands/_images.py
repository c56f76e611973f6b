"""Arguments of the commands that run a backbone on images."""

import argparse
from pathlib import Path

from mmengine.config import Config

from mmwf.analysis.backbone import BackboneInputs, input_shape
from mmwf.engine.config import load_config
from mmwf.errors import UserError


def add_image_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds ``--images``, ``--num-images`` and ``--shape``."""
    parser.add_argument('--images', required=True, metavar='DIR', help='folder of images')
    parser.add_argument(
        '--num-images',
        type=int,
        default=50,
        metavar='N',
        help='use N images, evenly spaced in the folder (default: 50)',
    )
    parser.add_argument(
        '--shape',
        nargs=2,
        type=int,
        metavar=('HEIGHT', 'WIDTH'),
        help="resize the images to this size, in pixels (default: the config's training crop, else "
        '224 224)',
    )


def read_image_arguments(args: argparse.Namespace) -> tuple[Config, BackboneInputs, Path]:
    """Returns the config, the images and the plot to write.

    Args:
        args: With ``config``, ``cfg_options``, ``out`` and the arguments of
            :func:`add_image_arguments`.

    Raises:
        UserError: If the config or the images do not exist, or ``out`` is not a ``.png``.
    """
    out = Path(args.out)
    if out.suffix != '.png':
        raise UserError(f'Expected --out FILE.png, got {out}.')
    cfg = load_config(args.config, args.cfg_options)
    shape = tuple(args.shape or input_shape(cfg))
    return cfg, BackboneInputs(args.images, cfg, shape, args.num_images), out
