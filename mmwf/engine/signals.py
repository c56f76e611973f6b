"""Signals that end a run: it saves a checkpoint first."""

import os
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from mmengine.dist import all_reduce, barrier, is_main_process
from mmengine.hooks import CheckpointHook, Hook

from mmwf.errors import RunStopped
from mmwf.files import write_text
from mmwf.registry import HOOKS

from .checkpoint_hook import CheckpointHook as OurCheckpointHook

#: Slurm sends SIGUSR1 if it is asked to, ahead of a time limit; a terminal that is closed, SIGHUP.
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
#: Signals within as many seconds are one: a terminal and torchrun both send theirs on Ctrl-C.
SAME_SECONDS = 2.0
STOPPED = 'stopped.pth'
_STOPPING = (
    b'\nStopping: a checkpoint is saved after this iteration, or after validation. A second Ctrl-C '
    b'ends the run at once.\n'
)


@HOOKS.register_module()
class SignalHook(Hook):
    """Saves a checkpoint and ends the run when it gets SIGTERM, SIGINT, SIGHUP or SIGUSR1.

    It does so at the end of the iteration, of all processes at the same one, whichever gets the
    signal; with accumulated gradients, after the next step of the optimizer. A second signal ends
    the run at once. The exit code is 75, but 130 after SIGINT.

    The checkpoint has the name that the run's checkpoints have if these count iterations, else
    ``stopped.pth``, which the next one replaces.

    Raises:
        RunStopped: After the checkpoint has been saved.
    """

    priority = 'LOWEST'  # after the hooks that save checkpoints

    def before_train(self, runner) -> None:
        """Starts to handle signals."""
        self._received, self._since, self._is_main = 0, 0.0, is_main_process()
        self._previous = {}
        if threading.current_thread() is threading.main_thread():  # Python allows it there only
            self._previous = {number: signal.signal(number, self._receive) for number in SIGNALS}
        device = next(runner.model.parameters()).device
        for loader in (loop.dataloader for loop in (runner.train_loop, runner.val_loop) if loop):
            loader.worker_init_fn = partial(_init_worker, loader.worker_init_fn)
        self._flag = torch.zeros(1, dtype=torch.int32, device=device)

    def _receive(self, number: int, frame) -> None:
        if not self._received:
            self._received, self._since = number, time.monotonic()
            if self._is_main:
                os.write(2, _STOPPING)  # not by the logger, in whose code the signal may come
        elif time.monotonic() - self._since > SAME_SECONDS:
            self._restore()
            os.kill(os.getpid(), number)

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def after_train(self, runner) -> None:
        """Stops to handle signals."""
        self._restore()

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        """Saves and raises if any process has got a signal."""
        self._flag.fill_(self._received)
        all_reduce(self._flag, op='max')
        number = self._flag.item()
        if not number:
            return
        wrapper = runner.optim_wrapper
        if hasattr(wrapper, 'should_update') and not wrapper.should_update():
            return
        path = _save(runner)
        barrier()  # while rank 0 saves, no process may end: Slurm would kill the others
        self._restore()
        drop_iterators(runner)
        runner.logger.warning(
            f'{signal.Signals(number).name}: stopped after iteration {runner.iter + 1}, saved in '
            f'{path}. To continue, run the same command with --resume.'
        )
        raise RunStopped(130 if number == signal.SIGINT else 75)


def _init_worker(init_fn: Callable[[int], None] | None, worker: int) -> None:
    """Lets a worker that loads data outlive a signal to all processes by a minute.

    The main process needs it until the end of the iteration, and ends it then.
    """
    if init_fn is not None:
        init_fn(worker)
    for number in SIGNALS:
        signal.signal(number, lambda *_: signal.alarm(60))


def drop_iterators(runner) -> None:
    """Lets the workers of the loaders end when the loops do.

    The garbage collector would drop the iterators after their queues, and wait 5 s for each worker.
    """
    for loop in (runner.train_loop, runner.val_loop):
        if loop is not None:
            loop.dataloader._iterator = None  # of persistent workers
    if hasattr(runner.train_loop, 'dataloader_iterator'):
        runner.train_loop.dataloader_iterator = None


def _save(runner) -> str:
    """Saves a checkpoint after an iteration; returns its path."""
    hook = next((hook for hook in runner.hooks if isinstance(hook, CheckpointHook)), None)
    if hook is not None and not hook.by_epoch:
        if hook.last_ckpt is None or not hook.last_ckpt.endswith(
            hook.filename_tmpl.format(runner.iter + 1)
        ):
            hook._save_checkpoint(runner)
        return hook.last_ckpt
    if isinstance(hook, OurCheckpointHook):
        hook.save_as(runner, STOPPED, dict(epoch=runner.epoch, iter=runner.iter + 1))
        return hook.last_ckpt
    folder = hook.out_dir if hook else runner.work_dir
    path = str(Path(folder) / STOPPED)
    runner.message_hub.update_info('last_ckpt', path)
    runner.save_checkpoint(folder, STOPPED, by_epoch=False)
    if is_main_process():
        # Absolute, as MMEngine reads it.
        write_text(Path(runner.work_dir, 'last_checkpoint'), path)
    return path
