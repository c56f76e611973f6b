"""Mixed precision, gradient checkpointing, compilation, and mmcv's operations."""

import torch
from mmengine.optim import build_optim_wrapper
from torch import nn

from mmwf import ops
from mmwf.models.layers import WeightPredictor

from .checks import Context, relative_error
from .numerics import build_backbone, features_and_gradients, matmul_precision


def _images(context: Context, batch_size: int = 2) -> torch.Tensor:
    size = 64 if context.is_toy else 224
    return torch.randn(batch_size, 3, size, size, device=context.device)


def _check_prediction_dtype(context: Context) -> None:
    model = build_backbone(5).to(context.device)
    predicted = set()

    def record(module, inputs, delta) -> None:
        factors = delta if isinstance(delta, ops.LowRank) else (delta,)
        predicted.update(factor.dtype for factor in factors)

    for module in model.modules():
        if isinstance(module, WeightPredictor):
            module.register_forward_hook(record)
    with torch.autocast(context.device, torch.bfloat16):
        model(_images(context))
    name = 'weights are predicted in fp32 under bf16 autocast'
    context.add(name, predicted == {torch.float32}, ', '.join(map(str, predicted)), 'torch.float32')


def _check_steps(context: Context, dtype: str) -> None:
    """Trains four steps with the optimizer wrapper of ``--amp``."""
    model = nn.Sequential(build_backbone(5, out_type='avg_featmap')).to(context.device)
    wrapper = build_optim_wrapper(
        model,
        dict(
            type='mmwf.AmpOptimWrapper',
            dtype=dtype,
            optimizer=dict(type='AdamW', lr=1e-3),
            clip_grad=dict(max_norm=5.0),
        ),
    )
    losses, images = [], _images(context)
    for _ in range(4):
        with wrapper.optim_context(model):
            loss = model[0](images)[0].float().square().mean()
        wrapper.update_params(loss)
        losses.append(loss.item())
    falls = all(map(torch.isfinite, torch.tensor(losses))) and losses[-1] < losses[0]
    context.add(f'{dtype} training lowers the loss', falls, f'{losses[0]:.4g} -> {losses[-1]:.4g}')


def _check_checkpointing(context: Context) -> None:
    plain, recomputed = (build_backbone(5, with_cp=cp).to(context.device) for cp in (False, True))
    images = _images(context)
    with matmul_precision('highest'):
        expected = features_and_gradients(plain, images)
        actual = features_and_gradients(recomputed, images)
    error = max(map(relative_error, actual, expected))
    context.add_error('gradient checkpointing: features and gradients', error, 1e-5)


def _check_compile(context: Context) -> None:
    model = build_backbone(5).to(context.device)
    images = _images(context)
    # On a CPU, Inductor needs a C++ compiler and takes minutes.
    backend = 'eager' if context.is_toy else 'inductor'
    with matmul_precision('highest'):
        expected = features_and_gradients(model, images)
        compiled = torch.compile(model, fullgraph=True, backend=backend)  # a graph break raises
        actual = features_and_gradients(compiled, images)
    error = max(map(relative_error, actual, expected))
    name = f'torch.compile ({backend}), one graph: features and gradients'
    context.add_error(name, error, 1e-4)


def training(context: Context) -> None:
    """Checks mixed precision, gradient scaling, gradient checkpointing and compilation."""
    _check_prediction_dtype(context)
    _check_steps(context, 'bfloat16')
    if context.device == 'cuda':
        _check_steps(context, 'float16')
    else:
        context.skip('float16 training with gradient scaling', 'needs CUDA')
    _check_checkpointing(context)
    _check_compile(context)


def mmcv_ops(context: Context) -> None:
    """Compares mmcv's operations on the device with the CPU."""
    from mmcv.ops import RoIAlign, batched_nms

    generator = torch.Generator().manual_seed(0)
    number = 200 if context.is_toy else 5000
    corners = torch.rand(number, 2, generator=generator) * 200
    sizes = torch.rand(number, 2, generator=generator) * 60 + 4
    boxes = torch.cat([corners, corners + sizes], dim=1)
    scores = torch.rand(number, generator=generator)
    labels = torch.randint(80, (number,), generator=generator)
    settings = dict(type='nms', iou_threshold=0.5)
    _, expected = batched_nms(boxes, scores, labels, settings)
    _, kept = batched_nms(*(x.to(context.device) for x in (boxes, scores, labels)), settings)
    same = torch.equal(kept.cpu(), expected)
    context.add('batched_nms keeps the same boxes', same, f'{len(kept)} of {number}', len(expected))

    align = RoIAlign(output_size=7, spatial_scale=1 / 8, sampling_ratio=0)
    features = torch.randn(2, 16, 32, 32, generator=generator)
    rois = torch.cat([torch.randint(2, (number, 1), generator=generator).float(), boxes], dim=1)
    results = []
    for device in ('cpu', context.device):
        leaf = features.to(device).requires_grad_()
        out = align(leaf, rois.to(device))
        out.square().mean().backward()
        results.append((out, leaf.grad))
    error = max(map(relative_error, results[1], results[0]))
    context.add_error('RoIAlign: output and gradient', error, 1e-5)
    with torch.autocast(context.device, torch.bfloat16):
        out = align(features.to(context.device, torch.bfloat16), rois.to(context.device))
    context.add_error('RoIAlign in bf16', relative_error(out, results[0][0]), 1e-2)
