"""``mmwf sample``: samples images from a trained diffusion model."""

import argparse
from dataclasses import asdict
from pathlib import Path

import torch
from mmengine.dist import init_dist, is_main_process
from torchvision.io import decode_image

from mmwf.apis.generation import sample_to_files
from mmwf.apis.inference import init_model
from mmwf.checkpoints import check_checkpoint
from mmwf.engine.device import set_up_processes
from mmwf.errors import UserError
from mmwf.visualization.predictions import draw_generation

from ._common import add_config_arguments, add_run_arguments, read_config

GRID_SIZE = 20  # maximum number of rows and columns of grid.png


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Sample images from a trained diffusion model. Writes one PNG per image, and '
        'grid.png with a row per class.'
    )
    add_config_arguments(parser, 'model.vae.path=DIR')
    parser.add_argument('checkpoint', help='checkpoint or released weights')
    parser.add_argument('--out', required=True, metavar='DIR', help='folder of the images to write')
    parser.add_argument(
        '--classes',
        nargs='+',
        type=int,
        required=True,
        metavar='LABEL',
        help='classes to sample, counted from 0',
    )
    parser.add_argument(
        '--num-per-class', type=int, default=10, metavar='N', help='images per class (default: 10)'
    )
    parser.add_argument(
        '--sampler', choices=['ddpm', 'ddim'], help='sampler (default: that of the config)'
    )
    parser.add_argument(
        '--steps', type=int, metavar='N', help='sampling steps (default: those of the config)'
    )
    parser.add_argument(
        '--cfg-scale',
        type=float,
        metavar='S',
        help='scale of classifier-free guidance; 1 is none (default: that of the config)',
    )
    parser.add_argument('--seed', type=int, help='seed of the noise (default: that of the config)')
    parser.add_argument(
        '--batch-size',
        type=int,
        default=50,
        metavar='N',
        help='images per batch and process (default: 50)',
    )
    add_run_arguments(parser)
    return parser.parse_args(argv)


def draw_grid(paths: list[Path], labels: list[int], protocol: dict, file: Path) -> None:
    """Draws the first samples of the first classes, a row per class.

    Args:
        paths: Files of the samples, sorted by class.
        labels: Classes of the samples, each the same number of times.
        protocol: The settings of the sampler.
        file: The PNG to write.
    """
    num_classes = len(set(labels))
    num_per_class = len(labels) // num_classes
    rows, columns = min(num_classes, GRID_SIZE), min(num_per_class, GRID_SIZE)
    samples = [
        dict(image=decode_image(paths[i]), label=labels[i], protocol=protocol)
        for row in range(rows)
        for i in range(row * num_per_class, row * num_per_class + columns)
    ]
    draw_generation(samples, file, columns)


def main(argv: list[str] | None = None) -> None:
    """Runs the command."""
    args = parse_args(argv)
    if min(args.num_per_class, args.batch_size) < 1:
        raise UserError('Expected --num-per-class and --batch-size of 1 or more.')
    cfg = read_config(args)
    if cfg.model.type != 'mmwf.GaussianDiffusion':
        raise UserError(f'Expected a config of configs/generation, got {args.config}.')
    settings = dict(
        sampler=args.sampler, num_steps=args.steps, cfg_scale=args.cfg_scale, seed=args.seed
    )
    cfg.model.test_cfg.update({k: v for k, v in settings.items() if v is not None})
    check_checkpoint(args.checkpoint)
    set_up_processes(cfg, args.launcher)
    if args.launcher != 'none' and torch.cuda.is_available():
        init_dist(args.launcher, **cfg.env_cfg.dist_cfg)
    labels = [label for label in dict.fromkeys(args.classes) for _ in range(args.num_per_class)]
    model = init_model(cfg, args.checkpoint)
    if model.decode:
        model.decode.load()  # fails now, not after sampling, if the VAE is missing
    model.check_labels(labels)
    folder = Path(args.out)
    paths = sample_to_files(model, labels, folder, args.batch_size)
    if is_main_process():
        draw_grid(paths, labels, asdict(model.settings), folder / 'grid.png')
        print(f'{len(paths)} images and grid.png: {folder}')
