"""Strength of predicted relative to static weights (paper appendix A.1, figure 6)."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mmwf import ops
from mmwf.models.layers import WeightPredictor


def dynamic_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Returns the layers with a weight predictor by name, in order of depth."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(getattr(module, 'predictor', None), WeightPredictor)
    }


@contextmanager
def record_weight_strength(model: nn.Module) -> Iterator[dict[str, list[Tensor]]]:
    """Records the weight strength ||dW||_F / ||W0||_F of each image in its ``with`` block.

    Args:
        model: Any model with dynamic layers. Its outputs and gradients do not change.

    Yields:
        By the name of each dynamic layer that ran, a list with the ratios (B,) of each call.
        Gradient checkpointing calls a layer twice.
    """
    strength = defaultdict(list)

    def watch(name: str, layer: nn.Module):
        @torch.no_grad()
        def hook(predictor, inputs, delta):
            with torch.autocast(layer.weight.device.type, enabled=False):
                norm = torch.linalg.vector_norm(ops.dense(delta).flatten(1), dim=1)
            strength[name].append(norm / torch.linalg.vector_norm(layer.weight))

        return layer.predictor.register_forward_hook(hook)

    handles = [watch(name, layer) for name, layer in dynamic_layers(model).items()]
    try:
        yield strength
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def measure_weight_strength(model: nn.Module, images: Iterable[Tensor]) -> dict[str, Tensor]:
    """Measures the weight strength of each dynamic layer for each image.

    Args:
        model: Maps a batch of images to any output, such as a backbone. It is set to evaluation
            mode.
        images: Batches (B, channels, height, width).

    Returns:
        Ratios (number of images,) by the name of each dynamic layer, in order of depth.

    Raises:
        ValueError: If the model has no dynamic layers, or if there are no images.
    """
    if not dynamic_layers(model):
        raise ValueError(
            f'Expected a model with dynamic layers, but {type(model).__name__} has none.'
        )
    model.eval()
    with record_weight_strength(model) as strength:
        for batch in images:
            model(batch)
    if not strength:
        raise ValueError('Expected at least one image, got none.')
    return {name: torch.cat(ratios) for name, ratios in strength.items()}


def summarize(strength: dict[str, Tensor]) -> list[dict]:
    """Computes mean and standard deviation for each layer.

    Args:
        strength: Ratios (number of images,) of layers named ``blocks.INDEX.LAYER``.

    Returns:
        For each layer ``block`` (its index), ``layer``, ``mean`` and ``std`` over the images.
    """
    rows = []
    for name, ratios in strength.items():
        block, layer = re.fullmatch(r'blocks\.(\d+)\.(.+)', name).groups()
        mean, std = ratios.mean().item(), ratios.std(correction=0).item()
        rows.append(dict(block=int(block), layer=layer, mean=mean, std=std))
    return rows
