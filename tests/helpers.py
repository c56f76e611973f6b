"""Running tools as a user does, and comparing the checkpoints they write."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import torch
from filelock import FileLock

ROOT = Path(__file__).parents[1]


def run(*command, code=0, timeout=300, **env):
    """Runs a command in the project root; returns its stdout and stderr.

    Args:
        command: Program and arguments.
        code: Expected exit code.
        timeout: Seconds after which the command is killed.
        env: More environment variables.
    """
    result = subprocess.run(
        [str(part) for part in command],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        env={**os.environ, 'PYTHON': sys.executable, 'PYTHONPATH': str(ROOT), **env},
    )
    assert result.returncode == code, result.stdout[-4000:]
    return result.stdout


def run_tool(name, *args, **kwargs):
    """Runs ``tools/NAME`` (see :func:`run`)."""
    return run(sys.executable, f'tools/{name}', *args, **kwargs)


def make_once(tmp_path_factory, name, make):
    """Returns a temporary folder that is made once for all processes of pytest-xdist.

    Args:
        tmp_path_factory: The fixture.
        name: Name of the folder, unique among the tests.
        make: Fills the folder, which is its argument.
    """
    root = tmp_path_factory.getbasetemp()
    folder = (root.parent if 'PYTEST_XDIST_WORKER' in os.environ else root) / name
    done = folder.with_name(f'{name}.done')
    with FileLock(f'{folder}.lock'):
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)  # what a failed attempt left
            folder.mkdir()
            make(folder)
            done.touch()
    return folder


def weights(path):
    """Returns the weights in a training checkpoint."""
    return torch.load(path, weights_only=False)['state_dict']


def read_metrics(path):
    """Returns the metrics that ``mmwf test --out FILE.json`` wrote, without their protocol."""
    metrics = json.loads(Path(path).read_text())
    assert len(metrics.pop('protocol')['checkpoint_sha256']) == 64
    return metrics


def difference(first, second):
    """Returns the largest absolute difference between the tensors of two dicts."""
    return max((first[k] - second[k]).abs().max().item() for k in first)


def write_log(work_dir, timestamp, records):
    """Writes records as MMEngine logs them."""
    folder = work_dir / timestamp / 'vis_data'
    folder.mkdir(parents=True)
    lines = (json.dumps(record) for record in records)
    (folder / 'scalars.json').write_text('\n'.join(lines) + '\n')


def train_record(iteration, loss):
    """A record of a training iteration."""
    return dict(lr=0.1, loss=loss, time=1.0, iter=iteration, step=iteration)


def write_resumed_log(tmp_path):
    """Writes a log: validated at iteration 20 (epoch 1), stopped at 40, resumed from 20."""
    validation = {'accuracy/top1': 50.0, 'time': 9.0, 'step': 1}
    work_dir = tmp_path / 'resumed'
    write_log(
        work_dir,
        '20260102_000000',
        [
            *(train_record(10, 4.0), train_record(20, 3.0), validation),
            *(train_record(30, 9.0), {'accuracy/top1': 9.0, 'step': 2}, train_record(40, 9.0)),
        ],
    )
    write_log(work_dir, '20260102_000001', [train_record(30, 2.0)])
    return work_dir
