"""``tools/quickstart.sh``: every task at toy size on real, embedded data, through the same tools
and configs that a user calls."""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import mmengine

from mmwf.datasets.digits import write_digits
from mmwf.datasets.scenes import CLASSES, write_scenes

from . import pictures
from .environment import UserError

OUT = Path('work_dirs/quickstart')


@dataclass
class Task:
    """One task of the quick start.

    Attributes:
        config: Config file.
        prepare: Writes the data to disk.
        metrics: The names in the summary and where they come from in the test's metrics, with a
            factor.
        draw: Draws the predictions (the content of test.py's ``--out FILE.pkl``) to a PNG.
        starts_from: The task whose trained backbone this one starts from.
        judged_by: The task whose trained model reads the images that this one generates.
    """

    config: str
    prepare: Callable[[], None]
    metrics: dict[str, tuple[str, float]]
    draw: Callable[[list, Path], None]
    starts_from: str | None = None
    judged_by: str | None = None


def _prepare_digits() -> None:
    counts = write_digits('data/digits')
    print(f'data/digits: {counts["train"]} images to train on, {counts["val"]} to test on')


def _prepare_scenes(layout: str) -> None:
    counts = write_scenes('data/scenes', [layout])
    print(f'data/scenes/{layout}: {counts["train"]} scenes to train on, {counts["val"]} to test on')


TASKS = {
    'classification': Task(
        config='configs/quickstart/weightformer-w64d8-p4_1xb64-20e_digits-32px.py',
        prepare=_prepare_digits,
        metrics={'accuracy_top1': ('accuracy/top1', 0.01)},
        draw=pictures.draw_classification,
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
            pictures.draw_detection, ann_file='data/scenes/coco/annotations/instances_val.json'
        ),
        starts_from='classification',
    ),
    'segmentation': Task(
        config='configs/quickstart/upernet_weightformer-w64d8-p4_1xb16-1100i_scenes-64px.py',
        prepare=partial(_prepare_scenes, 'ade20k'),
        metrics={'mIoU': ('mIoU', 0.01), 'mAcc': ('mAcc', 0.01)},
        draw=partial(pictures.draw_segmentation, classes=('background', *CLASSES)),
        starts_from='classification',
    ),
    'generation': Task(
        config='configs/quickstart/dit_weightformer-w64d6-p2_1xb64-1500i_digits-8px.py',
        prepare=_prepare_digits,
        metrics={'class_accuracy': ('class_accuracy', 1), 'fid_digits': ('fid', 1)},
        draw=pictures.draw_generation,
        judged_by='classification',
    ),
}


def _run_tool(*args: str | Path) -> float:
    """Runs a tool with its output on the screen; returns the seconds it took."""
    command = [sys.executable, *map(str, args)]
    print('$ python ' + ' '.join(map(str, args)), flush=True)
    start = time.perf_counter()
    if subprocess.run(command, env=dict(os.environ, PYTHONUNBUFFERED='1')).returncode:
        raise UserError(f'{args[0]} failed; its last lines above say why.')
    return time.perf_counter() - start


def _last_checkpoint(name: str) -> str | None:
    """The newest checkpoint of a task, or None if it has not been trained."""
    file = OUT / name / 'last_checkpoint'
    checkpoint = file.read_text().strip() if file.is_file() else None
    return checkpoint if checkpoint and Path(checkpoint).is_file() else None


def run_task(name: str, task: Task) -> dict:
    """Prepares, trains, tests and draws one task; returns its entry in the summary."""
    work_dir = OUT / name
    task.prepare()
    train = ['tools/train.py', task.config, '--work-dir', work_dir]
    if task.starts_from:
        weights = _last_checkpoint(task.starts_from)
        option = 'model.backbone.init_cfg'
        train += ['--cfg-options', f'{option}.type=Pretrained', f'{option}.checkpoint={weights}']
    seconds = _run_tool(*train)
    metrics_file, predictions_file = work_dir / 'metrics.json', work_dir / 'predictions.pkl'
    test = ['tools/test.py', task.config, _last_checkpoint(name), '--work-dir', work_dir]
    test += ['--out', metrics_file, predictions_file]
    if task.judged_by:
        judge = _last_checkpoint(task.judged_by)
        test += ['--cfg-options', f'test_evaluator.extractor.checkpoint={judge}']
    _run_tool(*test)
    metrics = mmengine.load(metrics_file)
    task.draw(mmengine.load(predictions_file), OUT / f'{name}.png')
    entry = {
        key: round(metrics[source] * factor, 4) for key, (source, factor) in task.metrics.items()
    }
    return dict(entry, seconds=round(seconds, 1))


def _in_order(names: list[str]) -> list[str]:
    """Puts before each task the one that it needs, unless that has been trained already."""
    ordered = []
    for name in names:
        needed = TASKS[name].starts_from or TASKS[name].judged_by
        if needed and needed not in ordered and (needed in names or not _last_checkpoint(needed)):
            ordered.append(needed)
        if name not in ordered:
            ordered.append(name)
    return ordered


def main(argv: list[str] | None = None) -> None:
    """Runs ``tools/quickstart.py``."""
    parser = argparse.ArgumentParser(description='Train and test small models on embedded data.')
    parser.add_argument('tasks', nargs='*', metavar='TASK', help=f'out of {", ".join(TASKS)}')
    names = parser.parse_args(argv).tasks or list(TASKS)
    unknown = [name for name in names if name not in TASKS]
    if unknown:
        raise UserError(f'Expected tasks out of {", ".join(TASKS)}; got {", ".join(unknown)}.')
    names = _in_order(names)
    OUT.mkdir(parents=True, exist_ok=True)
    summary_file = OUT / 'summary.json'
    for i, name in enumerate(names, 1):
        print(f'=== quick start {i}/{len(names)}: {name}', flush=True)
        entry = run_task(name, TASKS[name])
        summary = json.loads(summary_file.read_text()) if summary_file.exists() else {}
        summary[name] = entry
        summary_file.write_text(json.dumps(summary, indent=2) + '\n')
        print(f'=== {name}: {entry}; picture: {OUT / name}.png', flush=True)
    print(f'Summary: {summary_file}')
