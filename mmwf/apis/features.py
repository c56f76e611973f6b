"""Features of pictures: the tokens of a WeightFormer, or their mean."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from torch import Tensor, nn

from mmwf.errors import UserError
from mmwf.models import WeightFormer

from .loading import ImagePipeline, fail, in_batches, number_images


class TokenReader:
    """Reads the tokens of some layers of a model's backbone.

    Args:
        model: A model with a :class:`mmwf.models.WeightFormer` as backbone.
        layers: Indices of blocks, whose output is read; negative ones count from the end; or
            ``'norm'``, the output of the last block after the norm at the end of the backbone.

    Attributes:
        layers: The names of the layers, each once: ``'norm'`` or the index of a block, from 0.

    Raises:
        UserError: If there is no such backbone, or no such layer.
    """

    def __init__(self, model: nn.Module, layers: Sequence[str | int] = ('norm',)):
        self.model, self.backbone = model, getattr(model, 'backbone', None)
        if not isinstance(self.backbone, WeightFormer):
            raise UserError(
                'Expected a model whose backbone is a WeightFormer, got '
                f'{type(self.backbone or model).__name__}.'
            )
        self.layers = list(dict.fromkeys(self._parse(layer) for layer in layers))

    def _parse(self, layer: str | int) -> str:
        depth = self.backbone.depth
        if layer == 'norm':
            return layer
        try:
            index = int(layer)
        except ValueError:
            index = depth
        if not -depth <= index < depth:
            raise UserError(
                f"Expected a layer to be 'norm' or a block from {-depth} to {depth - 1}, got "
                f'{layer!r}.'
            )
        return str(index % depth)

    @torch.no_grad()
    def __call__(self, packed: list[dict]) -> list[dict[str, Tensor]]:
        """Returns the tokens of pictures.

        Args:
            packed: What :class:`.ImagePipeline` makes of pictures, all of one shape.

        Returns:
            For each picture and layer, the tokens, (H, W, C), fp32 on the CPU. Where the model pads
            its inputs, the tokens of the padding are left out.
        """
        height, width = (
            -(-side // self.backbone.patch_size) for side in packed[0]['inputs'].shape[1:]
        )
        outputs: dict[str, Tensor] = {}

        def keep(name, module, args, output):
            outputs[name] = output

        last = str(self.backbone.depth - 1)
        indices = {last if name == 'norm' else name for name in self.layers}
        handles = [
            self.backbone.blocks[int(name)].register_forward_hook(partial(keep, name))
            for name in indices
        ]
        try:
            self.backbone(self.model.data_preprocessor(pseudo_collate(packed), False)['inputs'])
        finally:
            for handle in handles:
                handle.remove()
        if 'norm' in self.layers:
            outputs['norm'] = self.backbone.norm(outputs[last])
        maps = {name: outputs[name][:, :height, :width].float().cpu() for name in self.layers}
        return [{name: tokens[i] for name, tokens in maps.items()} for i in range(len(packed))]


def extract_features(
    model: nn.Module,
    images: Sequence[str | Path | np.ndarray],
    layers: Sequence[str | int] = ('norm',),
    *,
    tokens: bool = False,
    batch_size: int = 1,
) -> dict[str, Tensor | list[Tensor]]:
    """Computes features of pictures, which go through the test pipeline of the model's config.

    Args:
        model: A model of :func:`.init_model` with a WeightFormer as backbone.
        images: Paths of image files, or arrays as OpenCV reads them, (height, width, 3), BGR.
        layers: As in :class:`TokenReader`.
        tokens: Whether to return the tokens in place of their mean.
        batch_size: Largest number of pictures in a forward pass.

    Returns:
        For each layer the features in the order of the images: (N, C), or with ``tokens`` a list
        of N tensors (H, W, C), since pictures may differ in size.

    Raises:
        UserError: If an image cannot be read, or there is no such layer.
    """
    reader, pipeline = TokenReader(model, layers), ImagePipeline(model.cfg)
    found: dict[int, dict[str, Tensor]] = {}
    pictures = number_images(images, pipeline)
    for batch in in_batches(pictures, pipeline, batch_size, fail):
        features = reader([packed for _, packed in batch])
        for (picture, _), maps in zip(batch, features, strict=True):
            found[picture.frame] = maps if tokens else average(maps)
    rows = [found[i] for i in range(len(images))]
    columns = {name: [row[name] for row in rows] for name in reader.layers}
    return columns if tokens else {name: torch.stack(column) for name, column in columns.items()}


def average(maps: dict[str, Tensor]) -> dict[str, Tensor]:
    """Averages the tokens of each layer: maps (H, W, C) to (C,)."""
    return {name: tokens.mean(dim=(0, 1)) for name, tokens in maps.items()}
