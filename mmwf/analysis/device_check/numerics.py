"""Numerical errors on the device, against the released model and float64 on the CPU."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

import mmwf
from mmwf import ops
from mmwf.checkpoints.released_keys import released_to_mmwf
from mmwf.models import Denoiser, WeightFormer
from mmwf.models.layers import (
    DWCONV_PREDICTORS,
    LINEAR_PREDICTORS,
    DynamicDWConv2d,
    DynamicLinear,
)

from .checks import Context, relative_error

GOLDEN = Path(mmwf.__file__).parents[1] / 'tests/data'
#: Bounds of the relative error of features and of gradients, against float64. fp32 is limited by
#: rounding over 17 blocks; TF32 and fp16 have 10 bits of mantissa, bf16 has 7.
BOUNDS = {
    'fp32': (1e-5, 1e-4),
    'tf32': (1e-2, 3e-2),
    'fp16': (1e-2, 3e-2),
    'bf16': (5e-2, 2e-1),
}


@contextmanager
def matmul_precision(precision: str) -> Iterator[None]:
    """Disables (``'highest'``) or enables (``'high'``) TF32 in matrix products and convolutions."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision(precision)
    torch.backends.cudnn.allow_tf32 = precision != 'highest'
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def _golden_classifier(context: Context, name: str, dtype: torch.dtype) -> None:
    golden = load_file(GOLDEN / f'weightformer_cls_e32_{name}.safetensors')
    released = {k.removeprefix('param/'): v for k, v in golden.items() if k.startswith('param/')}
    weights = {k: v.to(context.device, dtype) for k, v in released_to_mmwf(released).items()}
    head = [weights.pop(f'head.fc.{part}') for part in ('weight', 'bias')]
    model = WeightFormer(dict(embed_dims=32, depth=int(name[1]), mlp_ratio=4), out_type='raw')
    model.to(context.device, dtype)
    model.load_state_dict({k.removeprefix('backbone.'): v for k, v in weights.items()})
    image = golden['input'].to(context.device, dtype).requires_grad_()
    logits = F.linear(model(image)[0].mean(1), *head)
    ramp = torch.linspace(-1, 1, logits.numel(), dtype=torch.float64).view_as(logits)
    (logits * ramp.to(logits)).sum().backward()
    bound = 1e-9 if dtype == torch.float64 else 1e-5
    label = f'golden classifier {name}, {str(dtype).removeprefix("torch.")}'
    context.add_error(f'{label}: logits', relative_error(logits, golden['logits']), bound)
    context.add_error(
        f'{label}: gradient of the image', relative_error(image.grad, golden['grad_input']), bound
    )


class _TimeFeatures(nn.Module):
    """Looks up the golden sinusoidal features of time steps.

    In fp32, exp, sin and cos differ between devices by more than the golden tolerances.
    """

    def __init__(self, timesteps: Tensor, features: Tensor):
        super().__init__()
        self.features = dict(zip(timesteps.tolist(), features, strict=True))

    def forward(self, timesteps: Tensor) -> Tensor:
        features = [self.features[timestep] for timestep in timesteps.tolist()]
        return torch.stack(features).to(timesteps.device)


@torch.no_grad()
def _golden_denoiser(context: Context, dtype: torch.dtype) -> None:
    golden = load_file(GOLDEN / 'weightformer_dit_h48_d5_in8.safetensors')
    released = {k.removeprefix('param/'): v for k, v in golden.items() if k.startswith('param/')}
    arch = dict(embed_dims=48, depth=5, mlp_ratio=4)
    model = Denoiser(arch, input_size=8, patch_size=2, num_classes=10)
    weights = released_to_mmwf(released)
    model.load_state_dict({k.removeprefix('denoiser.'): v for k, v in weights.items()})
    model.to(context.device, dtype).eval()
    time_features = load_file(GOLDEN / 'weightformer_dit_time_features.safetensors')
    model.time_embed.time_proj = _TimeFeatures(**time_features)
    inputs = [golden[key].to(context.device) for key in ('input', 't', 'y')]
    out = model(inputs[0].to(dtype), *inputs[1:])
    bound = 1e-9 if dtype == torch.float64 else 1e-5
    name = f'golden denoiser, {str(dtype).removeprefix("torch.")}'
    context.add_error(f'{name}: output', relative_error(out, golden['output']), bound)


def golden(context: Context) -> None:
    """Compares with tensors of the released model, with TF32 off."""
    if not GOLDEN.is_dir():
        context.skip('golden tensors', 'they are in a checkout of the project, under tests/data')
        return
    with matmul_precision('highest'):
        for dtype in (torch.float64, torch.float32):
            for name in ('d3_px112', 'd5_px64'):
                _golden_classifier(context, name, dtype)
            _golden_denoiser(context, dtype)


def build_backbone(depth: int, **kwargs) -> WeightFormer:
    """Builds a WeightFormer-T of some depth with large predicted weights; they start near zero."""
    torch.manual_seed(0)
    model = WeightFormer(dict(embed_dims=192, depth=depth, mlp_ratio=4), **kwargs)
    for name, parameter in model.named_parameters():
        if '.predictor.' in name and parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.1)
    return model


def features_and_gradients(
    model: nn.Module, images: Tensor, dtype: torch.dtype | None = None
) -> tuple[Tensor, Tensor]:
    """Runs a backbone on images, forward and backward, under autocast if ``dtype`` is given.

    Returns:
        The features, and all gradients in one vector, both for a fixed random loss.
    """
    model.zero_grad()
    with torch.autocast(images.device.type, dtype, enabled=dtype is not None):
        (features,) = model(images)
    generator = torch.Generator().manual_seed(1)
    direction = torch.randn(features.shape, generator=generator).to(images)
    (features * direction).mean().backward()
    gradients = torch.cat([p.grad.double().flatten() for p in model.parameters()])
    return features.detach(), gradients


def precision(context: Context) -> None:
    """Compares fp32, TF32, fp16 and bf16 with float64 on the CPU, features and gradients."""
    depth, sizes = (5, (64, 96)) if context.is_toy else (17, (224, 1024))
    for size in sizes:
        images = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(2))
        expected = features_and_gradients(build_backbone(depth).double(), images.double())
        model = build_backbone(depth).to(context.device)
        images = images.to(context.device)
        for name, dtype in (
            ('fp32', None),
            ('tf32', None),
            ('fp16', torch.float16),
            ('bf16', torch.bfloat16),
        ):
            if name == 'tf32' and context.is_toy:
                context.skip(f'tf32 at {size} x {size}', 'needs CUDA')
                continue
            with matmul_precision('highest' if name == 'fp32' else 'high'):
                actual = features_and_gradients(model, images, dtype)
            for what, got, reference, bound in zip(
                ('features', 'gradients'), actual, expected, BOUNDS[name], strict=True
            ):
                error = relative_error(got, reference)
                context.add_error(f'{name} at {size} x {size}: {what}', error, bound)


def _gradients(function, inputs: list[Tensor], **kwargs) -> list[Tensor]:
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    out = ops.dense(function(*leaves, **kwargs))
    direction = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out)
    return [out.detach(), *torch.autograd.grad((out * direction).sum(), leaves)]


def _compare_with_naive(context: Context, name: str, function, inputs, **kwargs) -> None:
    """Compares a function on the device in fp32 with float64 and the naive backend on the CPU."""
    with ops.use_backend('naive'):
        expected = _gradients(function, [x.double() for x in inputs], **kwargs)
    actual = _gradients(function, [x.to(context.device) for x in inputs], **kwargs)
    error = max(relative_error(a, e) for a, e in zip(actual, expected, strict=True))
    context.add_error(f'{name}: output and gradients', error, 1e-4)


def _compare_operations(context: Context, b: int, h: int, w: int, c: int, d: int, r: int) -> None:
    """Compares every operation with the naive backend in float64."""

    def compare(function, *shapes: tuple[int, ...], **kwargs) -> None:
        inputs = [torch.randn(shape) for shape in shapes]
        _compare_with_naive(context, function.__name__, function, inputs, **kwargs)

    def dwconv_norm(*inputs: Tensor) -> Tensor:
        return torch.cat(ops.dwconv_norm(*inputs, eps=1e-6), dim=-1)

    compare(ops.bilateral_weight, (b, h * w, r), (b, h * w, d), (r, c), (d, d), scale=1 / (h * w))
    compare(ops.dynamic_linear, (b, h, w, c), (c, d), (b, c, d), (d,))
    compare(ops.mlp, (b, h, w, c), (c, d), (b, c, d), (d,), (c, d), (c,))
    compare(ops.dwconv2d, (b, h, w, c), (c, 1, 3, 3), (c,))
    kernels = (c, 1, 3, 3), (b, c, 3, 3), (c,)
    compare(ops.dynamic_dwconv2d, (b, h, w, c), *kernels)
    compare(dwconv_norm, (b, h, w, c), *kernels, (c,), (c,))


def kernels(context: Context) -> None:
    """Compares the Triton kernels with the naive backend in float64."""
    if context.is_toy:
        context.skip('Triton kernels', 'needs a GPU')
        return
    torch.manual_seed(0)
    with matmul_precision('highest'), ops.use_backend('triton'):
        _compare_operations(context, 4, 28, 37, 192, 768, 48)


def operations(context: Context) -> None:
    """Compares every operation and weight predictor with the naive backend in float64."""
    torch.manual_seed(0)
    b, h, w, c, d, r = (2, 5, 7, 8, 28, 4) if context.is_toy else (4, 28, 37, 192, 768, 48)
    with matmul_precision('highest'):
        _compare_operations(context, b, h, w, c, d, r)
        layers = {
            f'linear predictor {n}': DynamicLinear(c, d, predictor=n) for n in LINEAR_PREDICTORS
        }
        layers |= {
            f'dwconv predictor {n}': DynamicDWConv2d(c, predictor=n) for n in DWCONV_PREDICTORS
        }
        tokens = torch.randn(b, h, w, c)
        for name, layer in layers.items():
            for parameter in layer.parameters():
                nn.init.normal_(parameter, std=0.1)

            def run(x, *values, layer=layer):
                names = [n for n, _ in layer.named_parameters()]
                return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), x)

            values = [p.detach() for p in layer.parameters()]
            _compare_with_naive(context, name, run, [tokens, *values])
