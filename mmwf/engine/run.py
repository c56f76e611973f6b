"""Building MMEngine's Runner."""

import logging

from mmengine.config import Config
from mmengine.runner import Runner

from mmwf.libraries import import_task_library, quiet_build

from .device import set_up_processes
from .screen import QuietRunner, ScreenHook


def _is_relevant(record: logging.LogRecord) -> bool:
    """Drops MMEngine's messages about its own deprecated classes and metrics without a prefix."""
    noise = (
        '"FileClient" will be',
        '"HardDiskBackend" is the',
        'The prefix is not set in metric class',
    )
    return not record.getMessage().startswith(noise)


def _drop_disabled_hooks(cfg: Config) -> None:
    """Removes the default hooks that are None: MMEngine accepts None for its own only."""
    own = ('runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint')
    hooks = cfg.get('default_hooks') or {}
    for name in [name for name, hook in hooks.items() if hook is None and name not in own]:
        del hooks[name]


def set_up_run(cfg: Config, launcher: str = 'none') -> Runner:
    """Adapts a config to the machine, starts the process group and builds the Runner.

    The screen shows a summary in place of MMEngine's header (:mod:`.screen`).

    Args:
        cfg: The config; it is modified in place (see :func:`.set_up_processes`).
        launcher: ``'none'``, ``'pytorch'``, ``'slurm'`` or ``'mpi'``.
    """
    set_up_processes(cfg, launcher)
    import_task_library(cfg)
    _drop_disabled_hooks(cfg)
    with quiet_build():
        runner = QuietRunner.from_cfg(cfg)
    runner.register_hook(ScreenHook())
    runner.logger.addFilter(_is_relevant)
    return runner
