"""Versions, device and driver."""

import platform
import subprocess

import torch

from mmwf.analysis.throughput import describe_machine
from mmwf.families import describe
from mmwf.mmcv_ext import has_compiled_mmcv_ops
from mmwf.version import __version__

from .checks import Context

PACKAGES = ('mmengine', 'mmcv', 'mmdet', 'mmseg', 'mmpretrain', 'torchvision', 'timm', 'diffusers')


def _driver() -> str:
    command = ['nvidia-smi', '--query-gpu=driver_version', '--format=csv,noheader']
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=30).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return 'nvidia-smi not found'


def environment(context: Context) -> None:
    """Records versions, device and driver."""
    context.info.update(
        mmwf=__version__,
        platform=platform.platform(),
        compiled_mmcv_ops=has_compiled_mmcv_ops(),
        **{package: describe(package) for package in PACKAGES},
        **describe_machine(context.device),
    )
    if context.device == 'cuda':
        properties = torch.cuda.get_device_properties(0)
        context.info.update(
            driver=_driver(),
            cuda=torch.version.cuda,
            cudnn=torch.backends.cudnn.version(),
            nccl='.'.join(map(str, torch.cuda.nccl.version())),
            gpus=torch.cuda.device_count(),
            memory_gib=round(properties.total_memory / 2**30, 1),
            capability='.'.join(map(str, torch.cuda.get_device_capability())),
            bf16_native=torch.cuda.is_bf16_supported(including_emulation=False),
        )
    numbers = torch.arange(6.0).view(2, 3)
    product = (numbers.to(context.device) @ numbers.T.to(context.device)).cpu()
    context.add('the device multiplies', product.tolist() == [[5.0, 14.0], [14.0, 50.0]])
