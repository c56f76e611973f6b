"""What all kernels share: the check of the device, and the types of tensors and products.

Triton's interpreter (``TRITON_INTERPRET=1``) runs kernels on the CPU, for tests. NumPy has no bf16,
so there kernels read and write fp32 instead, and PyTorch rounds their results.
"""

import os

import torch
from torch import Tensor

from mmwf.errors import UserError

INTERPRETED = os.environ.get('TRITON_INTERPRET', '').lower() in ('1', 'true', 'yes', 'on', 'y')
#: The types that the kernels read and write. They sum in fp32.
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def on_device(x: Tensor):
    """Returns a context in which kernels are launched on the device of a tensor.

    Raises:
        UserError: If the tensor is on the CPU and Triton is not interpreted.
    """
    if x.device.type == 'cpu' and not INTERPRETED:
        raise UserError(
            "Expected tensors on a GPU for the backend 'triton', got tensors on the CPU. Use "
            "mmwf.ops.set_backend('eager'), or, to test kernels, set TRITON_INTERPRET=1 before "
            'Python starts.'
        )
    return torch.cuda.device_of(x)


def storage_dtype(dtype: torch.dtype) -> torch.dtype:
    """Returns the type in which kernels read and write tensors of a type."""
    return torch.float32 if INTERPRETED and dtype == torch.bfloat16 else dtype


def readable(x: Tensor) -> Tensor:
    """Returns a contiguous tensor that kernels can read."""
    return x.to(storage_dtype(x.dtype)).contiguous()


def autocast_dtype(x: Tensor) -> torch.dtype:
    """Returns the type in which PyTorch would compute a convolution or product with a tensor."""
    if torch.is_autocast_enabled(x.device.type) and x.dtype != torch.float64:
        return torch.get_autocast_dtype(x.device.type)
    return x.dtype


def input_precision() -> str:
    """Returns how ``tl.dot`` multiplies fp32, as PyTorch's products on the GPU."""
    return 'ieee' if torch.get_float32_matmul_precision() == 'highest' else 'tf32'
