"""``tools/test.py``: computes the metrics of a trained model."""

import argparse
from copy import deepcopy
from pathlib import Path

import mmengine
from mmengine.config import Config, ConfigDict, DictAction
from mmengine.dist import get_world_size, is_main_process
from mmengine.registry import METRICS

from . import environment
from .check_coco import check_coco
from .environment import UserError

#: What writes the predictions of each default scope, where it is not MMEngine's own: these compress
#: masks or leave out what would fill the memory.
DUMPS = {'mmdet': 'DumpDetResults', 'mmseg': 'mmwf.DumpSegResults'}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Test a model.')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--work-dir', help='where the log and the metrics go')
    parser.add_argument(
        '--out',
        nargs='+',
        default=[],
        metavar='FILE',
        help='.json: write the metrics; .pkl: write every prediction; or both',
    )
    parser.add_argument('--show-dir', metavar='DIR', help='write pictures of the predictions')
    parser.add_argument('--tta', action='store_true', help='average over augmented images')
    parser.add_argument('--device', choices=['auto', 'cuda', 'cpu'], default='auto')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='change settings of the config, such as test_dataloader.batch_size=16',
    )
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    return parser.parse_args(argv)


def show_predictions(cfg: Config, folder: str) -> None:
    """Makes the visualization hook of the task write a picture of every test image.

    Raises:
        UserError: If the config has no such hook.
    """
    # Absolute, since the hooks would put it into the work dir, mmdet's once more for each batch.
    folder = str(Path(folder).absolute())
    settings = {
        'VisualizationHook': dict(enable=True, interval=1, out_dir=folder),
        'DetVisualizationHook': dict(draw=True, interval=1, test_out_dir=folder),
        'SegVisualizationHook': dict(draw=True),
    }
    hook = cfg.default_hooks.get('visualization') or {}
    if hook.get('type') not in settings:
        raise UserError(
            '--show-dir needs default_hooks.visualization in the config, of type '
            f'{" or ".join(settings)}; got {hook.get("type")}.'
        )
    hook.update(settings[hook['type']])
    if hook['type'] == 'SegVisualizationHook':  # leaves the folder to the visualizer
        cfg.visualizer.vis_backends = [dict(type='LocalVisBackend', img_save_dir=folder)]


def use_tta(cfg: Config) -> None:
    """Wraps model and pipeline for test-time augmentation: the config's own, else a flip.

    Raises:
        UserError: If the config has none and its task is not classification.
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
    """Runs ``tools/test.py`` and returns the metrics."""
    args = parse_args(argv)
    for path in args.out:
        if Path(path).suffix not in ('.json', '.pkl'):
            raise UserError(f'Expected --out FILE.json or FILE.pkl, got {path}.')
    if args.tta and args.show_dir:
        raise UserError('--show-dir draws one view of an image; leave --tta away to draw.')
    environment.choose_device(args.device, args.launcher)
    cfg = environment.load_config(args.config, args.cfg_options)
    cfg.work_dir = environment.default_work_dir(cfg, args.config, args.work_dir)
    environment.check_checkpoint(args.checkpoint)
    environment.check_data(cfg, ('test_dataloader',))
    check_coco(cfg, ('test_dataloader',))
    cfg.load_from, cfg.resume = args.checkpoint, False
    cfg.default_hooks.checkpoint_match = dict(type='mmwf.CheckpointMatchHook', strict=True)
    if args.show_dir:
        show_predictions(cfg, args.show_dir)
    if args.tta:
        use_tta(cfg)
    environment.set_up_processes(cfg, args.launcher)
    runner = environment.build_runner(cfg)
    if args.show_dir and get_world_size() > 1:
        runner.logger.info(
            f'--show-dir: only the first of {get_world_size()} processes draws, so only its share '
            'of the images; test with one process for all of them.'
        )
    for path in args.out:
        if path.endswith('.pkl'):
            dump = DUMPS.get(cfg.get('default_scope'), 'DumpResults')
            metric = METRICS.build(dict(type=dump, out_file_path=path))
            runner.test_evaluator.metrics.append(metric)
    metrics = runner.test()
    for path in args.out:
        if path.endswith('.json') and is_main_process():
            mmengine.dump(metrics, path, indent=2)
    return metrics
