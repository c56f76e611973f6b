"""``tools/sample.py``: samples images from a trained diffusion model."""

import argparse
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
from mmengine.config import Config, DictAction
from mmengine.device import get_device
from mmengine.dist import barrier, get_dist_info, init_dist, is_main_process
from mmengine.registry import MODELS
from torchvision.io import decode_image, write_png
from tqdm import tqdm

from mmwf.checkpoint import match_keys, read_checkpoint

from . import environment
from .environment import UserError

GRID_SIZE = 20  # rows and columns of grid.png, at most


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Sample images from a diffusion model.')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file, or the released weights')
    parser.add_argument('--out', required=True, metavar='DIR', help='where the images go')
    parser.add_argument(
        '--classes', nargs='+', type=int, required=True, metavar='ID', help='classes to show'
    )
    parser.add_argument('--num-per-class', type=int, default=10, metavar='N', help='default: 10')
    parser.add_argument('--sampler', choices=['ddpm', 'ddim'], help="default: the config's")
    parser.add_argument('--steps', type=int, metavar='N', help="default: the config's")
    parser.add_argument(
        '--cfg-scale', type=float, metavar='S', help="guidance, 1 for none; default: the config's"
    )
    parser.add_argument('--seed', type=int, help="default: the config's")
    parser.add_argument('--batch-size', type=int, default=50, metavar='N', help='default: 50')
    parser.add_argument('--device', choices=['auto', 'cuda', 'cpu'], default='auto')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE', help='as in train.py'
    )
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    return parser.parse_args(argv)


def load_model(cfg: Config, checkpoint: str) -> torch.nn.Module:
    """Builds the diffusion model of a config and fills it; of a training run, with the average.

    Raises:
        UserError: If the settings are out of range, the checkpoint does not fit, or there is no
            VAE.
    """
    model = MODELS.build(cfg.model)
    state_dict = read_checkpoint(checkpoint)['state_dict']
    match = match_keys(model.state_dict(), state_dict)
    if not match.is_exact:
        raise UserError(f'{checkpoint} does not fit the model of the config: {match}.')
    model.load_state_dict(state_dict)
    if model.decode:
        model.decode.load()
    return model.eval().to(get_device())


def sample_to_files(
    model: torch.nn.Module, labels: list[int], folder: Path, batch_size: int
) -> list[Path]:
    """Samples an image of each label; each process makes its share.

    Args:
        model: The diffusion model.
        labels: The classes to show.
        folder: Gets a file for each image.
        batch_size: Number of images at a time.

    Returns:
        The files, in the order of the labels.
    """
    rank, world_size = get_dist_info()
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f'{i:05d}_class-{label}.png' for i, label in enumerate(labels)]
    mine = range(rank, len(labels), world_size)
    batches = [mine[i : i + batch_size] for i in range(0, len(mine), batch_size)]
    for number, batch in enumerate(batches, 1):
        name = f'batch {number}/{len(batches)}'
        progress = partial(tqdm, desc=name, unit='step', disable=rank > 0)
        images = model.sample([labels[i] for i in batch], batch, progress)
        for i, image in zip(batch, images, strict=True):
            write_png(image, paths[i])
    barrier()
    return paths


def draw_grid(paths: list[Path], labels: list[int], protocol: dict, file: Path) -> None:
    """Draws the samples, a row for each class: of the first classes the first samples.

    Args:
        paths: Their files, class by class.
        labels: Their classes, of each equally many.
        protocol: How they were sampled.
        file: The PNG to write.
    """
    from .pictures import draw_generation

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
    """Runs ``tools/sample.py``."""
    args = parse_args(argv)
    if min(args.num_per_class, args.batch_size) < 1:
        raise UserError('Expected --num-per-class and --batch-size of 1 or more.')
    environment.choose_device(args.device, args.launcher)
    cfg = environment.load_config(args.config, args.cfg_options)
    if cfg.model.type != 'mmwf.GaussianDiffusion':
        raise UserError(f'Expected a config of configs/generation, got {args.config}.')
    asked = dict(
        sampler=args.sampler, num_steps=args.steps, cfg_scale=args.cfg_scale, seed=args.seed
    )
    cfg.model.test_cfg.update({key: value for key, value in asked.items() if value is not None})
    environment.check_checkpoint(args.checkpoint)
    environment.set_up_processes(cfg, args.launcher)
    if args.launcher != 'none' and torch.cuda.is_available():
        init_dist(args.launcher, **cfg.env_cfg.dist_cfg)
    labels = [label for label in dict.fromkeys(args.classes) for _ in range(args.num_per_class)]
    model = load_model(cfg, args.checkpoint)
    model.check_labels(labels)
    folder = Path(args.out)
    paths = sample_to_files(model, labels, folder, args.batch_size)
    if is_main_process():
        draw_grid(paths, labels, asdict(model.settings), folder / 'grid.png')
        print(f'{len(paths)} images and grid.png: {folder}')
