"""``tools/train.py``: trains the model of a config."""

import argparse

from mmengine.config import Config, DictAction
from mmengine.logging import print_log
from mmengine.runner import find_latest_checkpoint

from . import environment
from .check_dataset import SAMPLE, check_datasets
from .environment import UserError


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Train a model.')
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', help='where logs and checkpoints go')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='PATH|auto',
        help='go on from a checkpoint, or from the newest one of the work dir',
    )
    parser.add_argument(
        '--amp',
        action='store_true',
        help='mixed precision, in bf16 where the device has it, else fp16',
    )
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help="scale the learning rate by the batch over the config's base_batch_size",
    )
    parser.add_argument('--no-validate', action='store_true', help='train without validation')
    parser.add_argument('--device', choices=['auto', 'cuda', 'cpu'], default='auto')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='change settings of the config, such as optim_wrapper.optimizer.lr=1e-3',
    )
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    return parser.parse_args(argv)


def apply_args(cfg: Config, args: argparse.Namespace) -> None:
    """Writes the command line's choices into the config."""
    cfg.work_dir = environment.default_work_dir(cfg, args.config, args.work_dir)
    if args.amp:
        cfg.optim_wrapper.type = 'mmwf.AmpOptimWrapper'
    if args.auto_scale_lr:
        if not cfg.get('auto_scale_lr', {}).get('base_batch_size'):
            raise UserError(
                '--auto-scale-lr needs auto_scale_lr = dict(base_batch_size=...) in the config.'
            )
        cfg.auto_scale_lr.enable = True
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    if args.resume == 'auto':
        latest = find_latest_checkpoint(cfg.work_dir)
        if latest is None:
            print_log(
                f'--resume: there is nothing to resume in {cfg.work_dir}; starting from the '
                'beginning.',
                logger='current',
            )
        else:
            cfg.resume, cfg.load_from = True, latest
    elif args.resume:
        cfg.resume, cfg.load_from = True, args.resume
    if cfg.get('load_from'):
        environment.check_checkpoint(cfg.load_from)


def main(argv: list[str] | None = None) -> None:
    """Runs ``tools/train.py``."""
    args = parse_args(argv)
    environment.choose_device(args.device, args.launcher)
    cfg = environment.load_config(args.config, args.cfg_options)
    apply_args(cfg, args)
    loaders = ('train_dataloader', 'val_dataloader')
    check_datasets(cfg, loaders, max_images=SAMPLE)
    environment.set_up_processes(cfg, args.launcher)
    environment.build_runner(cfg).train()
