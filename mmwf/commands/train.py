"""``mmwf train``: trains the model of a config."""

import argparse
import os

from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.runner import find_latest_checkpoint

from mmwf.checkpoints import check_checkpoint, is_pretrained
from mmwf.datasets.checks import SAMPLE, check_datasets
from mmwf.engine.config import default_work_dir
from mmwf.engine.run import set_up_run
from mmwf.errors import UserError

from ._common import (
    add_compile_argument,
    add_config_arguments,
    add_run_arguments,
    read_config,
)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Train the model of a config.')
    add_config_arguments(parser, 'optim_wrapper.optimizer.lr=1e-3')
    parser.add_argument(
        '--work-dir',
        metavar='DIR',
        help='folder of logs and checkpoints (default: work_dirs/CONFIG_NAME)',
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='PATH|auto',
        help='resume from a checkpoint, by default the newest one in the work dir',
    )
    parser.add_argument(
        '--amp',
        action='store_true',
        help='use mixed precision: bf16 if the device supports it, else fp16',
    )
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate by (total batch size / base_batch_size of the config)',
    )
    parser.add_argument('--no-validate', action='store_true', help='skip validation')
    add_compile_argument(parser)
    add_run_arguments(parser)
    return parser.parse_args(argv)


def apply_args(cfg: Config, args: argparse.Namespace) -> None:
    """Writes the arguments into the config.

    Raises:
        UserError: If the config has no base batch size, or the checkpoint does not exist.
    """
    cfg.work_dir = default_work_dir(cfg, args.config, args.work_dir)
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
    restarted = int(os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)) > 0  # by torchrun
    latest = None
    if args.resume == 'auto' or restarted:
        latest = find_latest_checkpoint(cfg.work_dir)
    if latest:
        cfg.resume, cfg.load_from = True, latest
    elif args.resume == 'auto':
        print_log(
            f'--resume: there is nothing to resume in {cfg.work_dir}; starting a new run.',
            logger='current',
        )
    elif args.resume:
        cfg.resume, cfg.load_from = True, args.resume
    if cfg.get('load_from'):
        check_checkpoint(cfg.load_from)


def check_pretrained_backbone(cfg: Config) -> None:
    """Checks that the pretrained weights of the backbone exist.

    With ``load_from`` or ``resume`` they are not needed, and removed from the config.

    Raises:
        UserError: If the file does not exist; the message says how to train without it.
    """
    backbone = cfg.model.get('backbone') or {}
    if not is_pretrained(backbone.get('init_cfg')):
        return
    if cfg.get('load_from'):
        backbone.init_cfg = None
        return
    path = backbone.init_cfg.get('checkpoint')
    try:
        if path is None:
            raise UserError('model.backbone.init_cfg of type Pretrained needs a checkpoint.')
        check_checkpoint(path)
    except UserError as error:
        raise UserError(
            f'{error} The backbone expects pretrained weights there (model.backbone.init_cfg). '
            f'{cfg.get("weights_help", "")}To train without pretrained weights, add '
            '--cfg-options model.backbone.init_cfg=None.'
        ) from error


def main(argv: list[str] | None = None) -> None:
    """Runs the command."""
    args = parse_args(argv)
    cfg = read_config(args)
    if not cfg.get('train_dataloader'):
        raise UserError(f'{args.config} has no train_dataloader: there is nothing to train.')
    apply_args(cfg, args)
    check_pretrained_backbone(cfg)
    check_datasets(cfg, ('train_dataloader', 'val_dataloader'), max_images=SAMPLE)
    set_up_run(cfg, args.launcher).train()
