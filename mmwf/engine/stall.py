"""Training steps that never end, such as those that wait for a process that has stopped."""

import faulthandler

from mmengine.hooks import Hook

from mmwf.registry import HOOKS


@HOOKS.register_module()
class StallHook(Hook):
    """Ends the process if a training step takes too long, after printing what it waits for.

    Processes of a distributed run wait for each other in every step. Their timeout,
    ``env_cfg.dist_cfg.timeout``, must cover checks of the data; this one is for steps only. A timer
    that needs no Python prints the stacks of all threads and exits with code 1, upon which torchrun
    and Slurm end the other processes, and torchrun restarts them if it may.

    Args:
        timeout: Seconds that a step may take. It must cover the saving of a checkpoint, for which
            the other processes wait.

    Note:
        The first step of a run, which may compile kernels, is exempt; loading data and validation
        are, too.

    Raises:
        ValueError: If the timeout is not positive.
    """

    priority = 'LOWEST'  # registered after SignalHook, for which the processes wait, too

    def __init__(self, timeout: float = 600):
        if timeout <= 0:
            raise ValueError(f'Expected a positive timeout in seconds, got {timeout}.')
        self.timeout = timeout
        self._armed = False

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        """Starts the timer."""
        if self._armed:
            faulthandler.dump_traceback_later(self.timeout, exit=True)
        self._armed = True

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        """Stops the timer."""
        faulthandler.cancel_dump_traceback_later()
