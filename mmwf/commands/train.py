"""``mmwf train``: trains the model of a config."""

import argparse
import logging
import os

from mmengine.config import Config, ConfigDict
from mmengine.logging import print_log

from mmwf.checkpoints import check_checkpoint, find_newest, is_pretrained
from mmwf.datasets.checks import SAMPLE, check_datasets
from mmwf.engine.config import default_work_dir
from mmwf.engine.config_checks import check_config, check_model
from mmwf.engine.run import set_up_run
from mmwf.engine.work_dir import check_unused, check_writable, lock_work_dir
from mmwf.errors import UserError
from mmwf.processes import is_first_process

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
        help='resume from a checkpoint, by default the newest undamaged one in the work dir',
    )
    parser.add_argument(
        '--overwrite',
        action='store_true',
        help='start anew in a work dir that holds checkpoints, and remove them',
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
        UserError: If the config has no base batch size, the checkpoint does not exist, or a new
            run would start in a work dir that holds checkpoints.
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
    if restarted and find_newest(cfg.work_dir)[0]:
        args.resume, args.overwrite = 'auto', False
    if args.resume not in (None, 'auto'):
        cfg.resume, cfg.load_from = True, args.resume
    elif args.resume or (cfg.get('resume') and not cfg.get('load_from')):
        resume_newest(cfg)
    if cfg.get('load_from'):
        check_checkpoint(cfg.load_from)
    hooks = cfg.setdefault('default_hooks', ConfigDict())
    overwrite = args.overwrite or (hooks.get('work_dir') or {}).get('overwrite', False)
    hooks.work_dir = dict(type='mmwf.WorkDirHook', overwrite=overwrite)
    if not (cfg.get('resume') or overwrite):
        check_unused(cfg.work_dir)


def resume_newest(cfg: Config) -> None:
    """Resumes from the newest checkpoint in the work dir, or starts a new run if there is none.

    Args:
        cfg: The config; it is modified in place.

    Raises:
        UserError: If all checkpoints are damaged.
    """
    newest, skipped = find_newest(cfg.work_dir)
    for message in skipped:
        print_log(f'Skipped: {message}', logger='current', level=logging.WARNING)
    if newest is None:
        cfg.resume = False
        print_log(
            f'--resume: there is nothing to resume in {cfg.work_dir}; starting a new run.',
            logger='current',
        )
    else:
        cfg.resume, cfg.load_from = True, newest
        print_log(f'Resuming from {newest}.', logger='current')


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
    check_writable(cfg.work_dir)
    check_config(cfg)
    check_pretrained_backbone(cfg)
    check_model(cfg)
    check_datasets(cfg, ('train_dataloader', 'val_dataloader'), max_images=SAMPLE)
    if is_first_process(args.launcher):
        lock_work_dir(cfg.work_dir)  # before the log and the config are written to it
    set_up_run(cfg, args.launcher).train()
