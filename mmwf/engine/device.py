"""Adapting a run to the machine: its devices and processes."""

import os
import sys
from datetime import timedelta

import torch
from mmengine.config import Config
from mmengine.dist import is_distributed, is_main_process
from mmengine.logging import print_log

from mmwf.datasets.checks import LOADERS
from mmwf.errors import UserError
from mmwf.processes import export_variables, local_rank

PRECISIONS = ('highest', 'high', 'medium')


def choose_device(device: str, launcher: str) -> None:
    """Checks that the requested device is available.

    Args:
        device: ``'auto'``, ``'cuda'`` or ``'cpu'``. With ``'cpu'`` on a machine with GPUs, the
            program restarts itself with the GPUs hidden, since libraries look for them on import.
        launcher: ``'none'``, ``'pytorch'``, ``'slurm'`` or ``'mpi'``.

    Raises:
        UserError: If CUDA is requested but not available, or there are fewer GPUs than processes.
    """
    cuda = torch.cuda.is_available()
    if device == 'cuda' and not cuda:
        raise UserError(
            'CUDA was requested (--device cuda), but torch '
            f'{torch.__version__} sees no GPU (CUDA_VISIBLE_DEVICES='
            f'{os.environ.get("CUDA_VISIBLE_DEVICES", "not set")}). Check nvidia-smi and the '
            'driver, or omit the option to run on the CPU.'
        )
    if device == 'cpu' and cuda:
        os.environ['CUDA_VISIBLE_DEVICES'] = '-1'
        os.execv(sys.executable, sys.orig_argv)
    # Only torchrun sets the number of processes on this machine.
    processes = int(os.environ.get('LOCAL_WORLD_SIZE', local_rank() + 1))
    if launcher != 'none' and cuda and processes > torch.cuda.device_count():
        raise UserError(
            f'{processes} processes were requested on a machine with '
            f'{torch.cuda.device_count()} visible GPUs; expected one GPU per process.'
        )


def _replace_sync_bn(node) -> int:
    """Replaces SyncBN by BN everywhere in a config; returns the number of replacements."""
    # mmengine.model.revert_sync_batchnorm needs a built model, but the Runner builds the model and
    # wraps it in DDP in one go.
    if isinstance(node, (list, tuple)):
        return sum(map(_replace_sync_bn, node))
    if not isinstance(node, dict):
        return 0
    found = node.get('type') == 'SyncBN'
    if found:
        node['type'] = 'BN'
    return found + sum(map(_replace_sync_bn, node.values()))


def _set_matmul_precision(cfg: Config) -> None:
    """Sets the precision of fp32 products on GPUs; only ``'highest'`` disables TF32.

    Raises:
        UserError: If there is no such precision.
    """
    precision = cfg.get('float32_matmul_precision', 'high')
    if precision not in PRECISIONS:
        raise UserError(
            f'Expected float32_matmul_precision to be one of {", ".join(PRECISIONS)}, '
            f'got {precision!r}.'
        )
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision(precision)
        torch.backends.cudnn.allow_tf32 = precision != 'highest'  # convolutions


def set_up_processes(cfg: Config, launcher: str) -> None:
    """Adapts a config to the machine and, without a GPU, starts the process group with gloo.

    On a GPU, fp32 products use TF32, unless the config has ``float32_matmul_precision='highest'``.
    Without one, memory is not pinned and SyncBN, which PyTorch implements for GPUs only, becomes
    BN. Parameters and checkpoints stay the same.

    Args:
        cfg: The config; it is modified in place. A process waits for the others for
            ``env_cfg.dist_cfg.timeout`` seconds.
        launcher: As in :func:`choose_device`.

    Raises:
        UserError: If the precision is unknown, or the launcher did not start this process.
    """
    cfg.launcher = launcher
    if launcher != 'none':
        export_variables(launcher)
    _set_matmul_precision(cfg)
    if torch.cuda.is_available():
        return
    for name in LOADERS:
        if cfg.get(name):
            cfg[name].pin_memory = False
    replaced = _replace_sync_bn(cfg.model)
    if launcher != 'none':
        if not is_distributed():
            # Not MMEngine's init_dist, which assigns a GPU to each process.
            seconds = cfg.get('env_cfg', {}).get('dist_cfg', {}).get('timeout')
            timeout = None if seconds is None else timedelta(seconds=seconds)
            torch.distributed.init_process_group('gloo', timeout=timeout)
        if replaced and is_main_process():
            print_log(
                'SyncBN does not run without a GPU: each process normalises by the statistics of '
                'its own images (BN).',
                logger='current',
            )
        cfg.model_wrapper_cfg = dict(
            type='MMDistributedDataParallel',
            device_ids=None,
            broadcast_buffers=replaced > 0,  # the running statistics of BN
            find_unused_parameters=cfg.get('find_unused_parameters', False),
        )
