"""Killing a training at random moments and comparing it with one that was not killed."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from mmwf.checkpoints import read_checkpoint, read_pointer
from mmwf.errors import UserError

FOREVER = None  # as a timeout


@dataclass
class Result:
    """What a kill test has found.

    Attributes:
        kills: Number of kills before the run was complete.
        starting: Number of these that came before training had started.
        resumed: Number of starts that found a checkpoint to resume from.
        different: Names of the values that differ in the last checkpoints; should be empty.
    """

    kills: int
    starting: int
    resumed: int
    different: list[str]


def children(pid: int) -> Iterator[int]:
    """Yields the processes that a process has started, and what these have started."""
    with contextlib.suppress(OSError):
        for task in Path(f'/proc/{pid}/task').iterdir():
            for child in map(int, (task / 'children').read_text().split()):
                yield child
                yield from children(child)


def kill(process: subprocess.Popen) -> None:
    """Kills a process and all that it has started, launchers first, with SIGKILL."""
    for pid in [process.pid, *children(process.pid)]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


class Training:
    """A training, started again and again in one work dir with its output in ``WORK_DIR.log``."""

    def __init__(self, work_dir: Path, command: list[str], arguments: list[str]):
        self.work_dir = work_dir
        self.command = [*command, '--work-dir', str(work_dir), *arguments]

    def _starts(self) -> int:
        return len(list(self.work_dir.glob('*/vis_data')))  # made when the Runner is built

    def start(self, resume: bool = False) -> None:
        self._before = self._starts()
        self.work_dir.parent.mkdir(parents=True, exist_ok=True)
        with self.work_dir.with_suffix('.log').open('a') as log:
            self._process = subprocess.Popen(
                [*self.command, *(['--resume'] if resume else [])],
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def ends_within(self, seconds: float | None) -> bool:
        """Whether the training ends in this time.

        Raises:
            UserError: If it ends with an error.
        """
        with contextlib.suppress(subprocess.TimeoutExpired):
            if self._process.wait(timeout=seconds):
                log = self.work_dir.with_suffix('.log')
                tail = ''.join(log.read_text().splitlines(keepends=True)[-15:])
                raise UserError(f'Training failed; the end of {log}:\n{tail}')
            return True
        return False

    def seconds_until_built(self) -> float:
        begin = time.monotonic()
        while self._starts() == self._before and not self.ends_within(0.1):
            pass
        return time.monotonic() - begin

    def kill(self) -> None:
        kill(self._process)

    def final_state(self) -> dict:
        checkpoint = read_checkpoint(read_pointer(self.work_dir))
        return {k: checkpoint.get(k) for k in ('state_dict', 'ema_state_dict', 'optimizer')}


def find_differences(first, second, name: str = '') -> list[str]:
    """Returns the names of the values that are not the same, bit by bit, in two nested dicts."""
    if isinstance(first, dict) and isinstance(second, dict):
        keys = sorted({*first, *second}, key=str)
        parts = [(first.get(key), second.get(key), f'{name}.{key}'.strip('.')) for key in keys]
    elif isinstance(first, (list, tuple)) and isinstance(second, (list, tuple)):
        if len(first) != len(second):
            return [name]
        parts = [(a, b, f'{name}.{i}') for i, (a, b) in enumerate(zip(first, second, strict=True))]
    elif isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor):
        return [] if torch.equal(first, second) else [name]
    else:
        return [] if first == second else [name]
    return [found for part in parts for found in find_differences(*part)]


def run_kill_test(
    config: str, work_dir: str | Path, arguments: list[str], kills: int, processes: int, seed: int
) -> Result:
    """Trains once without and once with kills, each followed by ``--resume``.

    Every fourth kill comes while the program starts, the others spread over the training.

    Args:
        config: The config; should save checkpoints often, and log to ``LocalVisBackend``.
        work_dir: Folder for ``whole``, ``killed`` and their logs.
        arguments: More arguments of ``mmwf train``.
        kills: Number of kills; fewer if the run is complete before.
        processes: Processes of a distributed run; 1 starts no launcher.
        seed: Seed of the moments.

    Raises:
        UserError: If a training fails, none was resumed, or the work dir has one.
    """
    work_dir = Path(work_dir)
    if any((work_dir / name).exists() for name in ('whole', 'killed')):
        raise UserError(f'Expected an empty --work-dir, but {work_dir} has an earlier kill test.')
    command = [sys.executable, '-m', 'mmwf', 'train', config]
    if processes > 1:
        launch = ['torch.distributed.run', '--standalone', '--nproc-per-node', str(processes)]
        command[2:3] = [*launch, '-m', 'mmwf']
        arguments = [*arguments, '--launcher', 'pytorch']
    whole = Training(work_dir / 'whole', command, arguments)
    killed = Training(work_dir / 'killed', command, arguments)
    begin = time.monotonic()
    whole.start()
    starting = whole.seconds_until_built()
    whole.ends_within(FOREVER)
    training = time.monotonic() - begin - starting

    moments = random.Random(seed)
    result = Result(0, 0, 0, [])
    while result.kills < kills:
        result.resumed += read_pointer(killed.work_dir) is not None
        killed.start(resume=True)
        early = result.kills % 4 == 3
        if not early:
            killed.seconds_until_built()
        limit = starting if early else 2 * training / kills
        if killed.ends_within(moments.uniform(0, limit)):
            break
        killed.kill()
        result.kills += 1
        result.starting += early
    else:
        result.resumed += read_pointer(killed.work_dir) is not None
        killed.start(resume=True)
        killed.ends_within(FOREVER)
    if not result.resumed:
        raise UserError(
            f'No checkpoint was saved before any of the {result.kills} kills, so nothing was '
            'resumed. Expected fewer --kills, or a config that saves more often, such as with '
            '--cfg-options default_hooks.checkpoint.by_epoch=False '
            'default_hooks.checkpoint.interval=3 default_hooks.checkpoint.save_best=None.'
        )
    result.different = find_differences(whole.final_state(), killed.final_state())
    return result
