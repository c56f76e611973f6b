"""Running tools as a user does, and comparing the checkpoints they write."""

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


def difference(first, second):
    """Returns the largest absolute difference between the tensors of two dicts."""
    return max((first[k] - second[k]).abs().max().item() for k in first)
