"""What training and testing have in common: configs, devices, processes, and checks that come
before the work begins, so that a mistake costs seconds."""

import contextlib
import difflib
import gc
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.logging import print_log
from mmengine.runner import Runner

from mmwf.errors import UserError
from mmwf.libraries import import_task_library

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def run(main) -> None:
    """Runs the ``main`` of a tool, with a plain message for a :class:`UserError`."""
    try:
        main()
    except UserError as error:
        # From a process that loads data, torch hands on the traceback as part of the message.
        sys.exit(f'error: {str(error).rpartition(f"{type(error).__name__}: ")[2].strip()}')
    if torch.distributed.is_initialized():
        # The Runner's reference cycles hold the group too: while they do, gloo's threads go on, and
        # abort the process if they need the interpreter after its end.
        gc.collect()
        torch.distributed.destroy_process_group()


def load_config(path: str, options: dict | None = None) -> Config:
    """Reads a config file and applies the options of the command line.

    Raises:
        UserError: If there is no such file; the message names similar ones.
    """
    if not Path(path).is_file():
        known = [str(p) for p in Path('configs').rglob('*.py') if '_base_' not in p.parts]
        by_name = {Path(p).name: p for p in known}
        close = difflib.get_close_matches(Path(path).name, by_name, n=3, cutoff=0.3)
        hint = f' Did you mean {" or ".join(by_name[name] for name in close)}?' if close else ''
        raise UserError(f'There is no config {path}.{hint}')
    cfg = Config.fromfile(path)
    if options:
        cfg.merge_from_dict(options)
    return cfg


def _is_no_chatter(record: logging.LogRecord) -> bool:
    """Filters notes on MMEngine's own deprecated parts and on metrics without a prefix."""
    chatter = (
        '"FileClient" will be',
        '"HardDiskBackend" is the',
        'The prefix is not set in metric class',
    )
    return not record.getMessage().startswith(chatter)


@contextlib.contextmanager
def quiet_build() -> Iterator[None]:
    """Keeps off the screen that mmseg warns of what are its own defaults."""
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', message='Default ``avg_non_ignore`` is False')
        warnings.filterwarnings('ignore', message='The draw is False')
        yield


def build_runner(cfg: Config) -> Runner:
    """Builds MMEngine's Runner, after the library of the config's default scope is imported."""
    import_task_library(cfg)
    with quiet_build():
        runner = Runner.from_cfg(cfg)
    runner.logger.addFilter(_is_no_chatter)
    return runner


def choose_device(device: str, launcher: str) -> None:
    """Checks that the device that was asked for is there.

    Args:
        device: ``'auto'``, ``'cuda'`` or ``'cpu'``. For ``'cpu'`` on a machine with GPUs, the
            program starts again with the GPUs hidden, since libraries look at them on import.
        launcher: As on the command line.

    Raises:
        UserError: If CUDA is asked for and there is none, or fewer GPUs than processes.
    """
    cuda = torch.cuda.is_available()
    if device == 'cuda' and not cuda:
        raise UserError(
            'CUDA was asked for (--device cuda), but torch '
            f'{torch.__version__} sees no GPU (CUDA_VISIBLE_DEVICES='
            f'{os.environ.get("CUDA_VISIBLE_DEVICES", "not set")}). Check nvidia-smi and the '
            'driver, or leave the option away to run on the CPU.'
        )
    if device == 'cpu' and cuda:
        os.environ['CUDA_VISIBLE_DEVICES'] = '-1'
        os.execv(sys.executable, [sys.executable, *sys.argv])
    processes = int(os.environ.get('LOCAL_WORLD_SIZE', 1))
    if launcher != 'none' and cuda and processes > torch.cuda.device_count():
        raise UserError(
            f'{processes} processes were asked for on a machine with '
            f'{torch.cuda.device_count()} visible GPUs; expected one GPU for each.'
        )
    if launcher == 'slurm' and not cuda:
        raise UserError('The slurm launcher needs CUDA; without a GPU use tools/dist_train.sh.')


def _replace_sync_bn(node) -> int:
    """Writes BN for SyncBN everywhere in a config; returns how often."""
    if isinstance(node, (list, tuple)):
        return sum(map(_replace_sync_bn, node))
    if not isinstance(node, dict):
        return 0
    found = node.get('type') == 'SyncBN'
    if found:
        node['type'] = 'BN'
    return found + sum(map(_replace_sync_bn, node.values()))


def set_up_processes(cfg: Config, launcher: str) -> None:
    """Adapts the config to the machine: where there is no GPU, gloo, no pinned memory, and BN for
    SyncBN, which PyTorch has for GPUs only. Weights and checkpoints stay the same."""
    cfg.launcher = launcher
    if torch.cuda.is_available():
        return
    for name in LOADERS:
        if cfg.get(name):
            cfg[name].pin_memory = False
    replaced = _replace_sync_bn(cfg.model)
    if launcher != 'none':
        # MMEngine's own start-up selects a GPU for each process.
        torch.distributed.init_process_group('gloo')
        if replaced and is_main_process():
            print_log(
                'SyncBN does not run without a GPU: each process normalises with the statistics of '
                'its own images (BN).',
                logger='current',
            )
        cfg.model_wrapper_cfg = dict(
            type='MMDistributedDataParallel',
            device_ids=None,
            broadcast_buffers=replaced > 0,  # as one BN, the first process's
            find_unused_parameters=cfg.get('find_unused_parameters', False),
        )


def _data_paths(dataset: dict) -> Iterator[Path]:
    """Lists the files and folders that a dataset config names."""
    for key in ('dataset', 'datasets'):  # wrappers
        inner = dataset.get(key)
        for child in inner if isinstance(inner, (list, tuple)) else [inner]:
            if isinstance(child, dict):
                yield from _data_paths(child)
    root = Path(dataset.get('data_root') or '')
    if dataset.get('data_root'):
        yield root
    prefix = dataset.get('data_prefix') or dataset.get('split') or ''
    for part in prefix.values() if isinstance(prefix, dict) else [prefix]:
        if part:
            yield root / part
    if dataset.get('ann_file'):
        yield root / dataset['ann_file']


def check_data(cfg: Config, loaders: tuple[str, ...]) -> None:
    """Checks that the data of the given loaders are there.

    Raises:
        UserError: If not; the message names the path and how to get the data.
    """
    for name in loaders:
        for path in _data_paths(cfg[name].dataset) if cfg.get(name) else ():
            if not path.exists():
                raise UserError(
                    f'{name} expects {path}, and there is no such file or folder '
                    f'(looked at {path.absolute()}).\n'
                    + cfg.get('data_help', f'Put the data there, or set {name}.dataset.data_root.')
                )


def check_checkpoint(path: str) -> None:
    """Checks that a checkpoint is there.

    Raises:
        UserError: If not.
    """
    if '://' not in path and not Path(path).expanduser().is_file():
        raise UserError(f'There is no checkpoint {path} (looked at {Path(path).absolute()}).')


def default_work_dir(cfg: Config, config_path: str, work_dir: str | None) -> str:
    """The command line's, else the config's, else ``work_dirs/`` and the name of the config."""
    return work_dir or cfg.get('work_dir') or str(Path('work_dirs') / Path(config_path).stem)
