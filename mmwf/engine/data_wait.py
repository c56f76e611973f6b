"""The share of training time spent waiting for data."""

import os
import time
from collections import deque

from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer

from mmwf.registry import HOOKS


@HOOKS.register_module()
class DataWaitHook(Hook):
    """Logs the share of training time spent waiting for data, and warns once if it is large.

    ``data_wait`` in the log is the time between an iteration and the arrival of its successor's
    batch, divided by the whole time, over as many iterations as the logger smooths over.

    The warning compares the share since the warm-up with ``limit``, for the first time when the
    warm-up and as many iterations again have passed, so that short runs do not warn.

    Note:
        MMEngine's ``data_time`` is not used: it includes the time of hooks that run after its
        timer (such as saving a checkpoint) and, if training counts iterations, of the end of
        validation. Only the main process measures; if others wait for data, it waits for them
        when gradients are exchanged, which counts as training.

    Args:
        limit: The share above which to warn, from 0 to 1.
        warmup: Iterations at the start of the run, or of a resumed run, that do not count for the
            warning: workers start and kernels are tuned or compiled.

    Raises:
        ValueError: If the limit is not between 0 and 1, or the warm-up is not positive.
    """

    priority = 'LOWEST'  # after the hooks that save checkpoints

    def __init__(self, limit: float = 0.1, warmup: int = 50):
        if not 0 <= limit <= 1:
            raise ValueError(f'Expected a limit from 0 to 1, got {limit}.')
        if warmup < 1:
            raise ValueError(f'Expected a warmup of at least 1 iteration, got {warmup}.')
        self.limit = limit
        self.warmup = warmup

    @master_only
    def before_train(self, runner) -> None:
        """Starts measuring."""
        window = runner.log_processor.window_size
        self._recent = deque(maxlen=window)  # (seconds of waiting, seconds of the iteration)
        self._iterations, self._waited, self._total = 0, 0.0, 0.0
        self._warned = False

    @master_only
    def before_train_epoch(self, runner) -> None:
        """Starts waiting for the first batch."""
        self._idle_since = time.perf_counter()

    @master_only
    def after_val_epoch(self, runner, metrics=None) -> None:
        """Starts waiting again: validation between two iterations is not waiting for data."""
        self._idle_since = time.perf_counter()

    @master_only
    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        """Stops waiting."""
        self._busy_since = time.perf_counter()

    @master_only
    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        """Updates ``train/data_wait``, for the logger to read in the next iteration, and warns."""
        now = time.perf_counter()
        waited, total = self._busy_since - self._idle_since, now - self._idle_since
        self._idle_since = now
        self._recent.append((waited, total))
        share = sum(w for w, _ in self._recent) / sum(t for _, t in self._recent)
        # A buffer with one value: those that update_scalar makes keep, and copy, all values.
        runner.message_hub.log_scalars['train/data_wait'] = HistoryBuffer([share], [1])
        self._iterations += 1
        if self._iterations > self.warmup:
            self._waited += waited
            self._total += total
        if self._iterations >= 2 * self.warmup and not self._warned:
            self._warn_if_slow(runner)

    def _warn_if_slow(self, runner) -> None:
        share = self._waited / self._total
        if share <= self.limit:
            return
        self._warned = True
        workers = runner.train_dataloader.num_workers
        runner.logger.warning(
            f'TRAINING WAITS FOR DATA {share:.0%} OF THE TIME. What may help: a larger '
            f'train_dataloader.num_workers (now {workers} per process; this machine has '
            f'{os.cpu_count()} cores for all processes), smaller images on disk, or faster '
            'storage. `mmwf benchmark-data CONFIG` measures how many images a core prepares per '
            'second.'
        )
