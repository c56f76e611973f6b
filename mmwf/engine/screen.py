"""What a run shows on the screen; its log file keeps everything."""

import logging
import re
import sys
import time
from datetime import timedelta

import torch
from mmengine.dist import master_only
from mmengine.hooks import Hook, LoggerHook
from mmengine.runner import EpochBasedTrainLoop, Runner
from mmengine.utils import ProgressBar

from .summary import describe_testing, describe_training

#: Messages of MMEngine that are long, or that appear once for each parameter.
_FOR_THE_FILE = re.compile(
    r'\n-{60}\nSystem environment:'
    r'|Config:\n'
    r'|Hooks will be executed in the following order:'
    r'|paramwise_options -- '
    r'|Exp name: '
    r'|Distributed training is not used, all SyncBatchNorm'
    r'|Because batch augmentations are enabled, the data preprocessor'
    r'|Checkpoints will be saved to '
    r'|\S+ is skipped since its requires_grad=False'
)
_SECONDS = 10.0  # between lines of progress, where there is no terminal


def is_for_screen(record: logging.LogRecord) -> bool:
    """Whether a message is shown on the screen, too: not MMEngine's header of a run."""
    if record.funcName == 'after_test_iter' and record.module == 'logger_hook':
        return False  # ScreenHook shows the progress
    return _FOR_THE_FILE.match(record.getMessage()) is None


class QuietRunner(Runner):
    """MMEngine's Runner, which writes environment, config and hooks to its log file only."""

    def build_logger(self, *args, **kwargs):
        """Builds the logger as MMEngine does; its handler of the screen gets a filter."""
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.addFilter(is_for_screen)
        return logger


class ScreenHook(Hook):
    """Shows a summary before a run, the first iteration of training, and the progress of a test.

    The lines of training are those of MMEngine's LoggerHook.
    """

    priority = 'VERY_HIGH'  # the summary comes before the messages of other hooks

    @master_only
    def before_train(self, runner) -> None:
        """Shows the summary."""
        runner.logger.info(describe_training(runner))
        self._since: float | None = time.perf_counter()

    @master_only
    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        """Shows loss and seconds of the first iteration, and when the next line comes."""
        if self._since is None:
            return
        seconds, self._since = time.perf_counter() - self._since, None
        loss = (outputs or {}).get('loss')
        loss = '' if loss is None else f'loss {torch.as_tensor(loss).item():.4f}, '
        interval = next((h.interval for h in runner.hooks if isinstance(h, LoggerHook)), None)
        if interval and isinstance(runner.train_loop, EpochBasedTrainLoop):
            interval = min(interval, len(runner.train_dataloader))
        every = 'iteration' if interval == 1 else f'{interval} iterations'
        then = f' The next lines follow every {every}.' if interval else ''
        runner.logger.info(
            f'Iteration {runner.iter + 1} of {runner.max_iters}: {loss}{seconds:.1f} s including '
            f'the start of data loading.{then}'
        )

    @master_only
    def before_test(self, runner) -> None:
        """Shows the summary."""
        runner.logger.info(describe_testing(runner))

    @master_only
    def before_test_epoch(self, runner) -> None:
        """Starts the progress bar, if the screen is a terminal."""
        self._start = self._shown = time.perf_counter()
        total = len(runner.test_dataloader)
        self._bar = ProgressBar(total, file=sys.stdout) if sys.stdout.isatty() else None

    @master_only
    def after_test_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        """Moves the progress bar, or shows a line if ten seconds have passed since the last."""
        done, total = batch_idx + 1, len(runner.test_dataloader)
        if self._bar is not None:
            self._bar.update()
            if done == total:
                sys.stdout.write('\n')
            return
        now = time.perf_counter()
        if now - self._shown >= _SECONDS or done == total:
            self._shown = now
            left = timedelta(seconds=round((now - self._start) / done * (total - done)))
            runner.logger.info(f'Tested {done} of {total} batches, eta: {left}.')
