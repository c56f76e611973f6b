"""``tools/dataset_converters/imagenet_to_latents.py``: encodes a folder of images once and for
all."""

import argparse
import math
import os
from dataclasses import replace
from pathlib import Path

import torch
from mmengine.utils import ProgressBar
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder

from mmwf.checkpoint import hash_weights
from mmwf.datasets.images import SquareImages
from mmwf.datasets.latents import (
    DamagedShardError,
    ShardInfo,
    find_shards,
    read_shard_info,
    write_shard,
)
from mmwf.models.diffusion.vae import load_vae

from .environment import UserError


def find_work(out: Path, info: ShardInfo) -> list[int]:
    """Lists the shards that are still to be made.

    Args:
        out: The folder of the shards; truncated ones are made again.
        info: Of one of the shards to be made.

    Raises:
        UserError: If there are shards of another data set.
    """
    done = set()
    for path, index in find_shards(out).items():
        try:
            read_shard_info(path).check_same(info, str(path), 'what is asked for')
        except DamagedShardError as error:
            print(f'{error} It is made again.')
        else:
            done.add(index)
    return [index for index in range(info.num_shards) if index not in done]


@torch.no_grad()
def encode(vae: nn.Module, images: Tensor) -> Tensor:
    """Encodes images and their mirror images.

    Args:
        vae: diffusers' AutoencoderKL.
        images: (B, 3, H, W), uint8.

    Returns:
        Means and standard deviations, (B, 2, 2C, h, w).
    """
    images = images.to(vae.device, vae.dtype) / 127.5 - 1
    both = torch.stack([images, images.flip(-1)], dim=1)  # (B, 2, 3, H, W)
    latents = vae.encode(both.flatten(0, 1)).latent_dist
    return torch.cat([latents.mean, latents.std], dim=1).unflatten(0, (-1, 2))


def make_shards(
    folder: ImageFolder,
    out: Path,
    vae: nn.Module,
    info: ShardInfo,
    indices: list[int],
    *,
    batch_size: int,
    num_workers: int,
    show_progress: bool,
) -> None:
    """Encodes the images of some shards and writes them.

    Args:
        folder: The images.
        out: Where to put the shards.
        vae: diffusers' AutoencoderKL, on its device.
        info: Of one of them.
        indices: The shards to make.
        batch_size: Images that are encoded together; their mirror images come on top.
        num_workers: Processes that read images.
        show_progress: Whether to show a progress bar.
    """
    size = math.ceil(info.num_images / info.num_shards)
    parts = {index: folder.samples[index * size : (index + 1) * size] for index in indices}
    if show_progress:
        bar = ProgressBar(sum(map(len, parts.values())))
    for index, samples in parts.items():
        images = SquareImages([path for path, _ in samples], info.image_size)
        moments = []
        for batch in DataLoader(images, batch_size, num_workers=num_workers):
            moments.append(encode(vae, batch).half().cpu())
            if show_progress:
                bar.update(len(batch))
        labels = torch.tensor([label for _, label in samples])
        write_shard(out, torch.cat(moments), labels, replace(info, index=index))


def main(argv: list[str] | None = None) -> None:
    """Runs ``tools/dataset_converters/imagenet_to_latents.py``."""
    parser = argparse.ArgumentParser(
        description='Encode IMAGES/CLASS/* with a VAE into shards that mmwf.LatentDataset reads. '
        'Shards that are there already are skipped. torchrun shares the work among processes.'
    )
    parser.add_argument('images', help='folder with a sub-folder for each class')
    parser.add_argument('out', type=Path, help='folder to write')
    parser.add_argument('--vae', required=True, help="folder or hub name of diffusers' VAE")
    parser.add_argument('--image-size', type=int, default=256, help='side of the centre crop')
    parser.add_argument('--shard-size', type=int, default=10000, help='most images in a shard')
    parser.add_argument('--batch-size', type=int, default=32)
    parser.add_argument('--num-workers', type=int, default=4, help='processes that read images')
    args = parser.parse_args(argv)
    rank, world_size = (int(os.environ.get(k, d)) for k, d in (('RANK', 0), ('WORLD_SIZE', 1)))
    if min(args.image_size, args.shard_size, args.batch_size) < 1:
        raise UserError('Expected --image-size, --shard-size and --batch-size of 1 or more.')
    try:
        folder = ImageFolder(args.images)
    except OSError as error:
        raise UserError(f'{error} Expected images as {args.images}/CLASS/*.') from error
    vae = load_vae(args.vae)
    if torch.cuda.is_available():
        vae.to(f'cuda:{os.environ.get("LOCAL_RANK", 0)}')
    info = ShardInfo(
        index=0,
        vae=args.vae,
        vae_hash=hash_weights(vae.state_dict()),
        image_size=args.image_size,
        classes=folder.classes,
        num_images=len(folder),
        num_shards=math.ceil(len(folder) / args.shard_size),
    )
    args.out.mkdir(parents=True, exist_ok=True)
    work = find_work(args.out, info)
    if rank == 0:
        print(
            f'{info.num_images} images of {len(info.classes)} classes; VAE {info.vae_hash}; '
            f'{info.num_shards - len(work)} of {info.num_shards} shards are there.'
        )
    mine = [index for index in work if index % world_size == rank]
    make_shards(
        folder,
        args.out,
        vae,
        info,
        mine,
        batch_size=args.batch_size,
        num_workers=args.num_workers,
        show_progress=rank == 0,
    )
    print(f'\n{args.out}: process {rank} of {world_size} wrote {len(mine)} shards.')
