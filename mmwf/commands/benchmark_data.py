"""``mmwf benchmark-data``: images per second and core of a training pipeline."""

import argparse
import contextlib
import tempfile
from pathlib import Path

import torch

from mmwf.analysis.data_throughput import build_pipelines, measure_pipelines, write_photographs
from mmwf.analysis.throughput import describe_machine
from mmwf.datasets.images import list_images
from mmwf.engine.config import load_config
from mmwf.errors import UserError
from mmwf.families import describe

from ._common import add_config_arguments


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Measure how many images per second one core reads and augments for the '
        'training of a classification config, and compare it with the equivalent pipelines of timm '
        'and torchvision on the same files.'
    )
    add_config_arguments(parser, 'train_dataloader.dataset.pipeline.1.scale=192')
    parser.add_argument(
        '--images',
        metavar='DIR',
        help='folder with images, such as data/imagenet/val (default: 500 x 375 JPEG files made '
        'from photographs of scikit-learn and scikit-image)',
    )
    parser.add_argument(
        '--num', type=int, default=200, metavar='N', help='number of images (default: 200)'
    )
    parser.add_argument(
        '--turns',
        type=int,
        default=5,
        metavar='N',
        help='run each pipeline N times and report the median (default: 5)',
    )
    return parser.parse_args(argv)


def choose_images(folder: str, num: int) -> list[str]:
    """Returns ``num`` image files of a folder, evenly spaced in their order; all if it has fewer.

    Raises:
        UserError: If there are no images.
    """
    paths = list_images(folder)
    if not paths:
        raise UserError(f'Expected a folder with images, got {folder}.')
    num = min(num, len(paths))
    return [str(paths[i * len(paths) // num]) for i in range(num)]


def main(argv: list[str] | None = None) -> None:
    """Runs the command."""
    args = parse_args(argv)
    if min(args.num, args.turns) < 1:
        raise UserError(
            f'Expected --num and --turns of at least 1, got {args.num} and {args.turns}.'
        )
    pipelines = build_pipelines(load_config(args.config, args.cfg_options))
    with contextlib.ExitStack() as stack:
        if args.images:
            paths = choose_images(args.images, args.num)
        else:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            paths = write_photographs(folder, args.num)
        rows = measure_pipelines(pipelines, paths, args.turns)
    packages = ', '.join(map(describe, ('mmpretrain', 'timm', 'torchvision')))
    print(f'{Path(args.config).stem}: {len(paths)} images, {args.turns} turns')
    print(f'one core of {describe_machine()["device"]}, torch {torch.__version__}, {packages}\n')
    print('| pipeline | images/s and core | speed of this config relative to it |\n|---|---|---|')
    for row in rows:
        print(f'| {row["name"]:<24} | {row["images_per_second"]:>6.1f} | {row["ratio"]:>5.2f} x |')
