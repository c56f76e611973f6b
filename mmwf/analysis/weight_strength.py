"""How strong the predicted weights are beside the static ones (paper appendix A.1, figure 6)."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mmwf.models.layers import WeightPredictor


def dynamic_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Finds the layers that predict their weights; returns them by name, in order of depth."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(getattr(module, 'predictor', None), WeightPredictor)
    }


@contextmanager
def record_weight_strength(model: nn.Module) -> Iterator[dict[str, list[Tensor]]]:
    """Records, while its ``with`` block runs, the weight strength of each image:

        r = ||dW||_F / ||W0||_F

    Args:
        model: Any model with dynamic layers. Its outputs and gradients stay what they are.

    Yields:
        For each dynamic layer that ran a list with the ratios (B,) of each of its calls.
        Gradient checkpointing calls a layer twice.
    """
    strength = defaultdict(list)

    def watch(name: str, layer: nn.Module):
        @torch.no_grad()
        def hook(predictor, inputs, delta):
            norm = torch.linalg.vector_norm(delta.flatten(1), dim=1)
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
    """Measures the weight strength of each dynamic layer and image.

    Args:
        model: What maps a batch of images to anything, such as a backbone. It is put into
            evaluation mode.
        images: Batches (B, channels, height, width).

    Returns:
        For each dynamic layer, in order of depth, the ratios, (number of images,).

    Raises:
        ValueError: If the model has no dynamic layers, or if there are no images.
    """
    if not dynamic_layers(model):
        raise ValueError(
            f'Expected a model with dynamic layers, and {type(model).__name__} has none.'
        )
    model.eval()
    with record_weight_strength(model) as strength:
        for batch in images:
            model(batch)
    if not strength:
        raise ValueError('Expected at least one image, got none.')
    return {name: torch.cat(ratios) for name, ratios in strength.items()}
