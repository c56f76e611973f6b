"""Speed and memory of models."""

import platform
from pathlib import Path

import torch


def describe_machine(device: str = 'cpu') -> dict:
    """Names what figures were measured on.

    Args:
        device: ``'cpu'`` or ``'cuda'``.

    Returns:
        ``device`` (the model of the processor or GPU), ``threads`` (of PyTorch on the CPU),
        ``torch`` and ``python`` (versions).
    """
    if device == 'cuda':
        name = torch.cuda.get_device_name()
    else:
        cpuinfo = Path('/proc/cpuinfo')
        lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
        names = [line.split(':', 1)[1].strip() for line in lines if line.startswith('model name')]
        name = names[0] if names else platform.processor() or platform.machine()
    return dict(
        device=name,
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        python=platform.python_version(),
    )
