"""``mmwf quickstart``: trains and tests a small model for each task, on included data.

It runs the commands, on the kind of configs, that users run.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import mmengine

from mmwf.checkpoints import read_pointer
from mmwf.datasets.toy.digits import write_digits
from mmwf.datasets.toy.scenes import CLASSES, write_scenes
from mmwf.errors import UserError
from mmwf.visualization import predictions

OUT = Path('work_dirs/quickstart')


@dataclass
class Task:
    """One task of the quick start.

    Attributes:
        config: Config file.
        prepare: Writes the data to disk.
        metrics: For each metric in the summary, its name in the metrics of ``mmwf test`` and a
            factor.
        draw: Draws predictions (the content of ``mmwf test --out FILE.pkl``) to a PNG.
        short: With ``--short``, the option that ends the training after a few iterations,
        short_test: and the setting of the test dataset that leaves a few samples.
        init_from: The task whose trained backbone initialises this one's.
        classified_by: The task whose trained classifier evaluates the generated images.
    """

    config: str
    prepare: Callable[[], None]
    metrics: dict[str, tuple[str, float]]
    draw: Callable[[list, Path], None]
    short: str = 'max_iters=2'
    short_test: str = 'indices=8'
    init_from: str | None = None
    classified_by: str | None = None


def _prepare_digits() -> None:
    counts = write_digits('data/digits')
    print(f'data/digits: {counts["train"]} training, {counts["val"]} test images')


def _prepare_scenes(layout: str) -> None:
    counts = write_scenes('data/scenes', [layout])
    print(f'data/scenes/{layout}: {counts["train"]} training, {counts["val"]} test scenes')


TASKS = {
    'classification': Task(
        config='configs/quickstart/weightformer-w64d8-p4_1xb64-20e_digits-32px.py',
        prepare=_prepare_digits,
        metrics={'accuracy_top1': ('accuracy/top1', 0.01)},
        draw=predictions.draw_classification,
        short='max_epochs=1',
    ),
    'detection': Task(
        config='configs/quickstart/'
        'vitdet-cascade-mask-rcnn_weightformer-w64d8-p4_1xb16-300i_scenes-64px.py',
        prepare=partial(_prepare_scenes, 'coco'),
        metrics={
            'bbox_mAP_50': ('coco/bbox_mAP_50', 1),
            'segm_mAP_50': ('coco/segm_mAP_50', 1),
        },
        draw=partial(
            predictions.draw_detection, ann_file='data/scenes/coco/annotations/instances_val.json'
        ),
        init_from='classification',
    ),
    'segmentation': Task(
        config='configs/quickstart/upernet_weightformer-w64d8-p4_1xb16-1100i_scenes-64px.py',
        prepare=partial(_prepare_scenes, 'ade20k'),
        metrics={'mIoU': ('mIoU', 0.01), 'mAcc': ('mAcc', 0.01)},
        draw=partial(predictions.draw_segmentation, classes=('background', *CLASSES)),
        init_from='classification',
    ),
    'generation': Task(
        config='configs/quickstart/dit_weightformer-w64d6-p2_1xb64-1500i_digits-8px.py',
        prepare=_prepare_digits,
        metrics={'class_accuracy': ('class_accuracy', 1), 'fid_digits': ('fid', 1)},
        draw=predictions.draw_generation,
        short_test='num_samples=20',
        classified_by='classification',
    ),
}


def _run_command(*args: str | Path) -> float:
    """Runs a command of mmwf, which prints to the terminal; returns the seconds it took."""
    command = [sys.executable, '-m', 'mmwf', *map(str, args)]
    print('$ mmwf ' + ' '.join(map(str, args)), flush=True)
    start = time.perf_counter()
    if subprocess.run(command, env=dict(os.environ, PYTHONUNBUFFERED='1')).returncode:
        raise UserError(f'mmwf {args[0]} failed; see its last lines above.')
    return time.perf_counter() - start


def _last_checkpoint(name: str) -> str | None:
    """Returns the newest checkpoint of a task, or None if the task has not been trained."""
    checkpoint = read_pointer(OUT / name)
    return checkpoint if checkpoint and Path(checkpoint).is_file() else None


def run_task(name: str, task: Task, short: bool = False) -> dict:
    """Prepares the data of a task, trains, tests and draws; returns its entry in the summary."""
    work_dir = OUT / name
    task.prepare()
    options = [f'train_cfg.{task.short}'] if short else []
    if task.init_from:
        weights = _last_checkpoint(task.init_from)
        options.append(f'model.backbone.init_cfg.checkpoint={weights}')
    train = ['train', task.config, '--work-dir', work_dir, '--overwrite']
    train += ['--no-validate'] if short else []
    seconds = _run_command(*train, *(['--cfg-options', *options] if options else []))
    metrics_file, predictions_file = work_dir / 'metrics.json', work_dir / 'predictions.pkl'
    test = ['test', task.config, _last_checkpoint(name), '--work-dir', work_dir]
    test += ['--out', metrics_file, predictions_file]
    options = [f'test_dataloader.dataset.{task.short_test}'] if short else []
    if task.classified_by:
        classifier = _last_checkpoint(task.classified_by)
        options.append(f'test_evaluator.extractor.checkpoint={classifier}')
    _run_command(*test, *(['--cfg-options', *options] if options else []))
    metrics = mmengine.load(metrics_file)
    task.draw(mmengine.load(predictions_file), OUT / f'{name}.png')
    entry = {
        key: round(metrics[source] * factor, 4) for key, (source, factor) in task.metrics.items()
    }
    return dict(entry, seconds=round(seconds, 1))


def _write_summary() -> None:
    """Collects the entries of all tasks that have run, here or in another process."""
    entries = {name: OUT / name / 'summary.json' for name in TASKS}
    summary = {name: mmengine.load(file) for name, file in entries.items() if file.is_file()}
    mmengine.dump(summary, OUT / 'summary.json', indent=2)


def _in_order(names: list[str]) -> list[str]:
    """Puts before each task the one it depends on, unless that has been trained already."""
    ordered = []
    for name in names:
        dependency = TASKS[name].init_from or TASKS[name].classified_by
        if dependency and (dependency in names or not _last_checkpoint(dependency)):
            ordered.append(dependency)
        ordered.append(name)
    return list(dict.fromkeys(ordered))


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Train and test small models on included data. Writes work_dirs/quickstart/'
        'summary.json and one plot per task.'
    )
    parser.add_argument(
        'tasks',
        nargs='*',
        default=list(TASKS),
        metavar='TASK',
        help=f'tasks to run: {", ".join(TASKS)} (default: all)',
    )
    parser.add_argument(
        '--short',
        action='store_true',
        help='train for a few iterations only: everything runs, nothing is learned',
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Runs the command."""
    args = parse_args(argv)
    names = args.tasks
    unknown = [name for name in names if name not in TASKS]
    if unknown:
        raise UserError(
            f'Expected each TASK to be one of {", ".join(TASKS)}; got {", ".join(unknown)}.'
        )
    names = _in_order(names)
    for i, name in enumerate(names, 1):
        print(f'=== quick start {i}/{len(names)}: {name}', flush=True)
        entry = run_task(name, TASKS[name], args.short)
        mmengine.dump(entry, OUT / name / 'summary.json', indent=2)
        _write_summary()
        print(f'=== {name}: {entry}; plot: {OUT / name}.png', flush=True)
    print(f'Summary: {OUT / "summary.json"}')
