"""The machine: GPUs, threads, memory and folders."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import torch

from mmwf.files import format_size

from .findings import Finding
from .packages import installed_version

GIGABYTE = 1e9
#: Free space below which a folder is broken, or a reason to warn. A checkpoint of WeightFormer-S
#: with the states of AdamW has 0.33 GB.
SPACE = (1 * GIGABYTE, 10 * GIGABYTE)
MEMORY = 4 * GIGABYTE
SHARED_MEMORY = 1 * GIGABYTE  # through which data loaders pass batches; containers have 64 MB


def list_gpus() -> list[str]:
    """Returns name, memory and driver of each GPU that the driver sees, whatever PyTorch sees."""
    query = '--query-gpu=name,memory.total,driver_version'
    command = ['nvidia-smi', query, '--format=csv,noheader']
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.strip().splitlines() if done.returncode == 0 else []


def _check_device(index: int) -> Finding:
    """Checks that a GPU computes."""
    name, subject = torch.cuda.get_device_name(index), f'GPU {index}'
    try:
        numbers = torch.arange(6.0, device=f'cuda:{index}').view(2, 3)
        is_right = (numbers @ numbers.T).tolist() == [[5.0, 14.0], [14.0, 50.0]]
    except RuntimeError as error:
        is_right, name = False, f'{name}: {str(error).splitlines()[0]}'
    if is_right:
        free, total = (format_size(size) for size in torch.cuda.mem_get_info(index))
        return Finding('ok', subject, f'{name}, {free} of {total} free')
    fix = 'install a build of torch for this GPU (pytorch.org), or hide it: CUDA_VISIBLE_DEVICES'
    return Finding('broken', subject, f'{name} does not compute', fix)


def check_gpus() -> Iterator[Finding]:
    """Checks that PyTorch can use the GPUs that the driver sees."""
    listed, cuda = list_gpus(), torch.version.cuda
    visible = os.environ.get('CUDA_VISIBLE_DEVICES')
    if torch.cuda.is_available():
        yield Finding('ok', 'CUDA', f'{cuda}; driver: {listed[0] if listed else "unknown"}')
        yield from map(_check_device, range(torch.cuda.device_count()))
        version = installed_version('triton')
        if find_spec('triton'):
            yield Finding('ok', 'Triton', str(version))
        else:
            detail = "not installed: no --compile and no backend 'triton'"
            yield Finding('warning', 'Triton', detail, 'pip install triton')
    elif not listed:
        yield Finding('note', 'CUDA', 'no NVIDIA GPU or driver: everything runs on the CPU')
    elif visible in ('', '-1'):
        detail = f'CUDA_VISIBLE_DEVICES={visible} hides {len(listed)} GPUs'
        yield Finding('warning', 'CUDA', detail, 'unset CUDA_VISIBLE_DEVICES')
    elif cuda is None:
        detail = f'torch {torch.__version__} is built without CUDA, but there is {listed[0]}'
        fix = 'pip uninstall -y torch torchvision, then install their CUDA builds (pytorch.org)'
        yield Finding('broken', 'CUDA', detail, fix)
    else:
        detail = f'torch {torch.__version__} (CUDA {cuda}) cannot use the GPU {listed[0]}'
        fix = f'update the driver to one for CUDA {cuda}, or install torch for an older CUDA'
        yield Finding('broken', 'CUDA', detail, fix)


def count_cores() -> int:
    """Returns the number of CPU cores that this process may use."""
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def check_threads() -> Iterator[Finding]:
    """Checks the number of threads on the CPU."""
    cores, wanted = count_cores(), os.environ.get('OMP_NUM_THREADS')
    detail = f'{cores} cores, {torch.get_num_threads()} threads in PyTorch'
    fix = f'export OMP_NUM_THREADS={cores}, or unset OMP_NUM_THREADS'
    if wanted is None:
        yield Finding('ok', 'CPU', detail)
    elif not wanted.split(',')[0].strip().isdecimal() or int(wanted.split(',')[0]) < 1:
        yield Finding('broken', 'CPU', f'OMP_NUM_THREADS={wanted} is not a number of threads', fix)
    elif int(wanted.split(',')[0]) > cores:
        detail = f'OMP_NUM_THREADS={wanted} with {cores} cores: threads wait for each other'
        yield Finding('warning', 'CPU', detail, fix)
    else:
        yield Finding('ok', 'CPU', f'{detail} (OMP_NUM_THREADS={wanted})')


def available_memory() -> int | None:
    """Returns the memory in bytes that processes can still get, or None if it is unknown."""
    try:
        lines = Path('/proc/meminfo').read_text().splitlines()
    except OSError:
        return None
    sizes = [line.split()[1] for line in lines if line.startswith('MemAvailable:')]
    free = int(sizes[0]) * 1024 if sizes else None
    try:  # the limit of a container
        limit = Path('/sys/fs/cgroup/memory.max').read_text().strip()
        used = int(Path('/sys/fs/cgroup/memory.current').read_text())
    except (OSError, ValueError):
        return free
    return free if limit == 'max' or free is None else min(free, int(limit) - used)


def check_memory() -> Iterator[Finding]:
    """Checks the memory, and the shared memory of data loaders."""
    free = available_memory()
    if free is None:
        yield Finding('note', 'memory', 'unknown on this system')
    elif free < MEMORY:
        fix = 'end other programs, or train with smaller batches and fewer workers'
        yield Finding('warning', 'memory', f'{format_size(free)} available', fix)
    else:
        yield Finding('ok', 'memory', f'{format_size(free)} available')
    shared = Path('/dev/shm')
    if shared.is_dir() and (size := shutil.disk_usage(shared).total) < SHARED_MEMORY:
        detail = f'{format_size(size)}: workers of data loaders may die with a bus error'
        fix = 'docker run --shm-size=8g, or train_dataloader.num_workers=0'
        yield Finding('warning', '/dev/shm', detail, fix)


def check_folder(subject: str, folder: Path, fix: str) -> Finding:
    """Checks that a folder, or the one it would be created in, can be written and has space.

    Args:
        subject: What the folder is for.
        folder: The folder.
        fix: How to choose another one.
    """
    existing = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
        free = shutil.disk_usage(existing).free
    except OSError as error:
        detail = f'{folder}: cannot write to {existing}: {error.strerror}'
        return Finding('broken', subject, detail, fix)
    detail = f'{folder}: {format_size(free)} free'
    state = 'broken' if free < SPACE[0] else 'warning' if free < SPACE[1] else 'ok'
    return Finding(state, subject, detail, '' if state == 'ok' else f'free some space, or {fix}')


def check_folders(work_dir: Path) -> Iterator[Finding]:
    """Checks the folders that commands write to.

    Args:
        work_dir: The folder of results.
    """
    yield check_folder('work dir', work_dir, 'choose another folder with --work-dir')
    temporary = Path(tempfile.gettempdir())
    yield check_folder('temporary files', temporary, 'export TMPDIR=FOLDER')
    yield check_folder('downloads', Path(torch.hub.get_dir()), 'export TORCH_HOME=FOLDER')
