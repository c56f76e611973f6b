"""Sampling images from diffusion models."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from mmengine.dist import barrier, get_dist_info
from torch import Tensor, nn
from torchvision.io import encode_png
from tqdm import tqdm

from mmwf.files import write_bytes


def sample(model: nn.Module, labels: Sequence[int], batch_size: int = 50) -> Tensor:
    """Samples one image for each label.

    Args:
        model: A :class:`mmwf.models.GaussianDiffusion`, e.g. from :func:`.init_model`. Its
            ``settings`` are the sampler, steps, guidance scale and seed.
        labels: The classes of the images; at least one.
        batch_size: Images per forward pass. The images do not depend on it.

    Returns:
        RGB images, (len(labels), 3, height, width), uint8 on the CPU.

    Raises:
        UserError: If a label is out of range, or the VAE is missing.
        ValueError: If there are no labels, or ``batch_size`` is less than 1.
    """
    if not labels or batch_size < 1:
        raise ValueError(
            f'Expected labels and a batch_size of at least 1, got {len(labels)} labels and '
            f'batch_size={batch_size}.'
        )
    indices = range(len(labels))
    batches = [indices[i : i + batch_size] for i in range(0, len(labels), batch_size)]
    return torch.cat([model.sample([labels[i] for i in batch], batch) for batch in batches])


def sample_to_files(
    model: nn.Module, labels: Sequence[int], folder: Path, batch_size: int
) -> list[Path]:
    """Samples one image for each label and writes it to a file; processes share the work.

    Args:
        model: As in :func:`sample`.
        labels: As in :func:`sample`.
        folder: Folder of the files; created if it does not exist.
        batch_size: Images per forward pass and process.

    Returns:
        The files, ``INDEX_class-LABEL.png``, in the order of the labels.
    """
    rank, world_size = get_dist_info()
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f'{i:05d}_class-{label}.png' for i, label in enumerate(labels)]
    mine = range(rank, len(labels), world_size)
    batches = [mine[i : i + batch_size] for i in range(0, len(mine), batch_size)]
    for number, batch in enumerate(batches, 1):
        name = f'batch {number}/{len(batches)}'
        progress = partial(tqdm, desc=name, unit='step', disable=rank > 0)
        images = model.sample([labels[i] for i in batch], batch, progress)
        for i, image in zip(batch, images, strict=True):
            write_bytes(paths[i], encode_png(image).numpy().tobytes(), sync=False)
    barrier()
    return paths
