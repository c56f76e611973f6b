"""Compiles every Triton kernel for CUDA, without a GPU.

    python -m pytest tests/compile_triton.py

The operations run on the CPU, and instead of being launched, each kernel is compiled to machine
code with the sizes and options of the launch. ``test_ops_triton.py`` runs this file in a process of
its own, in which kernels are not interpreted.
"""

from contextlib import nullcontext

import pytest
import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from mmwf.ops import triton as backend

SHARED_BYTES = 99 * 1024  # of a block, on GeForce RTX 30 and 40; data centre GPUs have more
MODULES = (backend.dwconv, backend.fused_mlp, backend.predictor)
KERNELS = {
    kernel
    for module in MODULES
    for kernel in vars(module).values()
    if isinstance(kernel, triton.JITFunction) and kernel.__name__.endswith('_kernel')
}
TYPES = {torch.float32: '*fp32', torch.bfloat16: '*bf16', torch.float16: '*fp16'}


def describe(value):
    """Returns the type and the attributes of an argument that is not compiled in."""
    if isinstance(value, torch.Tensor):
        return TYPES[value.dtype], [['tt.divisibility', 16]]
    if isinstance(value, float):
        return 'fp32', []
    return 'i32', [] if value % 16 else [['tt.divisibility', 16]]


def compile_kernel(kernel, capability, args, kwargs):
    constants = {name: kwargs.pop(name) for name in list(kwargs) if name.isupper()}
    arguments = kernel.signature.bind(*args, **constants).arguments
    signature, constants, attributes = {}, {}, {}
    for i, parameter in enumerate(kernel.params):
        value = arguments[parameter.name]
        # As in a launch, None and 1 are compiled in.
        if parameter.is_constexpr or value is None or (isinstance(value, int) and value == 1):
            signature[parameter.name], constants[i,] = 'constexpr', value
        else:
            signature[parameter.name], attributes[i,] = describe(value)
    source = ASTSource(kernel, signature, constants, attributes)
    return triton.compile(source, target=GPUTarget('cuda', capability, 32), options=kwargs)


@pytest.mark.skipif(
    tuple(map(int, triton.__version__.split('.')[:2])) < (3, 3),
    reason='before 3.3, the compiler took the arguments of a kernel differently',
)
@pytest.mark.parametrize(
    ('capability', 'dtype', 'images', 'grid', 'channels'),
    [
        (75, torch.float16, 1, (1, 1), 24),
        (80, torch.bfloat16, 2, (14, 14), 384),
        (90, torch.float32, 2, (14, 14), 384),
    ],
)
def test_every_kernel_compiles_for_cuda(monkeypatch, capability, dtype, images, grid, channels):
    compiled = []

    def run(kernel, *args, grid, warmup, **kwargs):
        compiled.append((kernel, compile_kernel(kernel, capability, args, kwargs)))

    monkeypatch.setattr(triton.JITFunction, 'run', run)
    for module in MODULES:
        monkeypatch.setattr(module, 'on_device', lambda x: nullcontext())

    def randn(*shape):
        return torch.randn(*shape, dtype=dtype, requires_grad=True)

    b, (h, w), c, d = images, grid, channels, 4 * channels
    x, taps, channel = randn(b, h, w, c), randn(c, 1, 3, 3), randn(c)
    delta = backend.bilateral_weight(
        randn(b, h * w, c // 4), randn(b, h * w, d // 4), randn(c // 4, c), randn(d // 4, d), 0.1
    )
    delta = backend.normalize_low_rank(delta)
    y, normed = backend.dwconv_norm(x, taps, randn(b, c, 3, 3), channel, channel, channel, 1e-6)
    out = backend.mlp(normed, randn(c, d), delta, randn(d), randn(c, d), channel, 'none')
    (out + y + backend.dwconv2d(x, taps, channel)).sum().backward()
    assert {kernel for kernel, _ in compiled} == KERNELS
    for _, program in compiled:
        assert program.asm['cubin']
        assert program.metadata.shared <= SHARED_BYTES
