"""Runs commands and launchers as a user does."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import mmwf
from mmwf.checkpoints import read_pointer

from .checks import Context

ROOT = Path(mmwf.__file__).parents[1]
CLASSIFIER = 'configs/quickstart/weightformer-w64d8-p4_1xb64-20e_digits-32px.py'
#: Lowest metrics of the quick start that pass; not checked at toy size, where nothing is learned.
TARGETS = {
    'classification': {'accuracy_top1': 0.975},
    'detection': {'bbox_mAP_50': 0.6, 'segm_mAP_50': 0.6},
    'segmentation': {'mIoU': 0.7},
    'generation': {'class_accuracy': 0.85},
}


def _start(context: Context, name: str, command: list[str]) -> subprocess.Popen:
    """Starts a command in ``OUT/runs`` with its output in ``OUT/NAME.log``."""
    folder = context.out / 'runs'
    folder.mkdir(parents=True, exist_ok=True)
    env = dict(os.environ, PYTHON=sys.executable)
    env['PYTHONPATH'] = os.pathsep.join(filter(None, [str(ROOT), env.get('PYTHONPATH')]))
    with (context.out / f'{name}.log').open('w') as log:
        return subprocess.Popen(
            command,
            cwd=folder,
            env=env,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that _end also reaches what the command starts
        )


def _end(process: subprocess.Popen) -> None:
    """Ends a command that still runs, and the processes that it started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)  # torchrun then ends its workers
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _finish(context: Context, name: str, process: subprocess.Popen) -> bool:
    """Waits for a command until the deadline; records and returns whether it succeeded."""
    try:
        code = process.wait(timeout=max(context.seconds_left, 1))
    except subprocess.TimeoutExpired:
        code = 'out of time'
    finally:  # also on Ctrl+C
        _end(process)
    context.add(f'{name}: exit code', code == 0, code, 0)
    return code == 0


def quickstart(context: Context) -> None:
    """Trains and tests the four tasks of the quick start; three of them at the same time."""
    command = [sys.executable, '-m', 'mmwf', 'quickstart']
    command += ['--short'] if context.is_toy else []
    work_dir = context.out / 'runs' / 'work_dirs' / 'quickstart'
    first, *others = TARGETS
    succeeded = []
    for names in ([first], others):
        groups = [[name] for name in names] if context.device == 'cuda' else [names]
        processes = [_start(context, '-'.join(group), [*command, *group]) for group in groups]
        try:
            for group, process in zip(groups, processes, strict=True):
                if _finish(context, f'quick start: {", ".join(group)}', process):
                    succeeded += group
        finally:
            for process in processes:
                _end(process)
    for name in succeeded:
        entry = json.loads((work_dir / name / 'summary.json').read_text())
        context.tables.setdefault('quick start', []).append(dict(task=name, **entry))
        for metric, target in TARGETS[name].items():
            if context.is_toy:
                context.skip(f'{name}: {metric} >= {target}', 'a few iterations only')
            else:
                passed = entry[metric] >= target
                context.add(f'{name}: {metric}', passed, entry[metric], f'>= {target}')


def distributed(context: Context) -> None:
    """Trains and resumes through ``tools/dist_train.sh`` with one process."""
    script = ROOT / 'tools' / 'dist_train.sh'
    if not script.is_file():
        context.skip('distributed training', 'needs tools/dist_train.sh of a checkout')
        return
    digits = [sys.executable, '-m', 'mmwf', 'digits']
    if not _finish(context, 'digits', _start(context, 'digits', digits)):
        return
    work_dir = context.out / 'runs' / 'work_dirs' / 'distributed'
    backend = 'nccl' if context.device == 'cuda' else 'gloo'
    for epochs, extra in ((1, ['--overwrite']), (2, ['--resume'])):
        name = 'dist_train, resumed' if '--resume' in extra else 'dist_train'
        command = ['bash', str(script), CLASSIFIER, '1', '--work-dir', str(work_dir), *extra]
        command += ['--cfg-options', f'train_cfg.max_epochs={epochs}', 'train_cfg.val_interval=1']
        start = time.time()
        if not _finish(
            context, f'{name} ({backend})', _start(context, f'distributed_{epochs}', command)
        ):
            return
        path = read_pointer(work_dir) or ''
        context.add(
            f'{name}: last checkpoint', path.endswith(f'epoch_{epochs}.pth'), Path(path).name
        )
        context.info[f'{name}, seconds'] = round(time.time() - start, 1)
    log = (context.out / 'distributed_2.log').read_text()
    context.add('the second run resumed the first', 'resumed epoch: 1' in log)
