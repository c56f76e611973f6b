"""``mmwf test``: computes the metrics of a trained model."""

import argparse
import shlex
import sys
from copy import deepcopy
from pathlib import Path

import mmengine
from mmengine.config import Config, ConfigDict
from mmengine.dist import get_world_size, is_main_process
from mmengine.registry import METRICS

from mmwf.checkpoints import check_checkpoint
from mmwf.checkpoints.download import fetch
from mmwf.datasets.checks import check_coco, check_data
from mmwf.engine.config import default_work_dir
from mmwf.engine.config_checks import check_config
from mmwf.engine.run import set_up_run
from mmwf.engine.work_dir import check_writable
from mmwf.errors import UserError
from mmwf.evaluation.protocol import describe_test
from mmwf.visualization.predicted import PredictionPictures

from ._common import (
    add_compile_argument,
    add_config_arguments,
    add_run_arguments,
    read_config,
)

#: The metric that writes the predictions, by default scope; for the others MMEngine's DumpResults.
#: mmdet's compresses masks, and ours omits logits, which would fill the memory.
DUMPS = {'mmdet': 'DumpDetResults', 'mmseg': 'mmwf.DumpSegResults'}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Compute the metrics of a trained model.')
    add_config_arguments(parser, 'test_dataloader.batch_size=16')
    parser.add_argument('checkpoint', help='checkpoint or released weights')
    parser.add_argument(
        '--work-dir', metavar='DIR', help='folder of the log (default: work_dirs/CONFIG_NAME)'
    )
    parser.add_argument(
        '--out',
        nargs='+',
        default=[],
        metavar='FILE',
        help='write the metrics, and how they were computed, to FILE.json, the predictions to '
        'FILE.pkl, or both',
    )
    parser.add_argument(
        '--show-dir',
        metavar='DIR',
        help='draw the prediction for each test image beside the ground truth, into DIR',
    )
    parser.add_argument(
        '--show-score-thr',
        type=float,
        default=0.3,
        metavar='S',
        help='detection: smallest score of an object that --show-dir draws (default: 0.3)',
    )
    parser.add_argument(
        '--tta',
        action='store_true',
        help='use test-time augmentation: that of the config, for classifiers by default a flip',
    )
    add_compile_argument(parser)
    add_run_arguments(parser)
    return parser.parse_args(argv)


def use_tta(cfg: Config) -> None:
    """Wraps model and pipeline in test-time augmentation.

    It is the ``tta_model`` and ``tta_pipeline`` of the config; for classification, by default the
    mean over the image and its mirror image.

    Args:
        cfg: The config; it is modified in place.

    Raises:
        UserError: If the config has no test-time augmentation and is not for classification.
    """
    if 'tta_model' not in cfg or 'tta_pipeline' not in cfg:
        if cfg.get('default_scope') != 'mmpretrain':
            raise UserError('--tta needs tta_model and tta_pipeline in the config.')
        pipeline = cfg.test_dataloader.dataset.pipeline
        cfg.tta_model = dict(type='AverageClsScoreTTA')
        flips = [dict(type='RandomFlip', prob=1.0), dict(type='RandomFlip', prob=0.0)]
        cfg.tta_pipeline = deepcopy(pipeline[:-1]) + [
            dict(type='TestTimeAug', transforms=[flips, [deepcopy(pipeline[-1])]])
        ]
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)
    cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline


def main(argv: list[str] | None = None) -> dict:
    """Runs the command and returns the metrics."""
    args = parse_args(argv)
    for path in args.out:
        if Path(path).suffix not in ('.json', '.pkl'):
            raise UserError(f'Expected --out FILE.json or FILE.pkl, got {path}.')
    if args.tta and args.show_dir:
        raise UserError('--show-dir draws a single view of each image; omit --tta, or --show-dir.')
    cfg = read_config(args)
    if args.show_dir and cfg.get('default_scope') not in ('mmpretrain', 'mmdet', 'mmseg'):
        raise UserError(
            '--show-dir needs a config of mmpretrain, mmdet or mmseg, whose tests have images; got '
            f'default_scope={cfg.get("default_scope")}. Sampled images: mmwf sample.'
        )
    cfg.work_dir = default_work_dir(cfg, args.config, args.work_dir)
    check_writable(cfg.work_dir)
    check_checkpoint(args.checkpoint)
    check_config(cfg)
    check_data(cfg, ('test_dataloader', 'bank_dataloader'))
    check_coco(cfg, ('test_dataloader',))
    cfg.load_from, cfg.resume = args.checkpoint, False
    cfg.default_hooks.setdefault('checkpoint_match', dict(type='mmwf.CheckpointMatchHook'))
    cfg.default_hooks.checkpoint_match.strict = True
    if args.tta:
        use_tta(cfg)
    runner = set_up_run(cfg, args.launcher)
    if args.show_dir:
        runner.register_hook(PredictionPictures(args.show_dir, args.show_score_thr))
    for path in args.out:
        if path.endswith('.pkl'):
            dump = DUMPS.get(cfg.get('default_scope'), 'DumpResults')
            metric = METRICS.build(dict(type=dump, out_file_path=path))
            runner.test_evaluator.metrics.append(metric)
    metrics = runner.test()
    files = [path for path in args.out if path.endswith('.json')]
    if files and is_main_process():
        protocol = describe_test(
            cfg,
            fetch(args.checkpoint),
            command=shlex.join(['mmwf', 'test', *(sys.argv[1:] if argv is None else argv)]),
            tta=args.tta,
            num_images=len(runner.test_dataloader.dataset),
            processes=get_world_size(),
        )
        protocol.update(metrics.get('protocol', {}))  # of the metric itself: how it sampled
        for path in files:
            mmengine.dump(dict(metrics, protocol=protocol), path, indent=2)
    return metrics
