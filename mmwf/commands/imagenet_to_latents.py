"""``mmwf imagenet-to-latents``: encodes an image folder with a VAE, for latent diffusion."""

import argparse
import math
import os
from dataclasses import replace
from pathlib import Path

import torch
from mmengine.utils import ProgressBar
from torch import nn
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder

from mmwf.checkpoints import hash_weights
from mmwf.datasets.images import SquareImages
from mmwf.datasets.latents import (
    DamagedShardError,
    ShardInfo,
    find_shards,
    read_shard_info,
    write_shard,
)
from mmwf.errors import UserError
from mmwf.models.diffusion.vae import encode_with_flip, load_vae


def find_work(out: Path, info: ShardInfo) -> list[int]:
    """Returns the indices of the shards that are missing or damaged.

    Args:
        out: The folder of the shards.
        info: Describes the dataset; its ``index`` does not matter.

    Raises:
        UserError: If there are shards of another dataset.
    """
    done = set()
    for path, index in find_shards(out).items():
        try:
            read_shard_info(path).check_same(info, str(path), 'the requested shards')
        except DamagedShardError as error:
            print(f'{error} It is encoded again.')
        else:
            done.add(index)
    return [index for index in range(info.num_shards) if index not in done]


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
    """Encodes the images of some shards and writes the shards.

    Args:
        folder: The images.
        out: The folder of the shards.
        vae: diffusers' AutoencoderKL, on the device to use.
        info: Describes the dataset; its ``index`` does not matter.
        indices: The shards to write.
        batch_size: Images per batch; each is encoded twice, as it is and flipped.
        num_workers: Number of processes that read images.
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
            moments.append(encode_with_flip(vae, batch).half().cpu())
            if show_progress:
                bar.update(len(batch))
        labels = torch.tensor([label for _, label in samples])
        write_shard(out, torch.cat(moments), labels, replace(info, index=index))


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Encode IMAGES/CLASS/* with a VAE into shards that mmwf.LatentDataset reads. '
        'Complete shards are not encoded again. torchrun distributes the shards over processes.'
    )
    parser.add_argument('images', help='folder with one subfolder per class')
    parser.add_argument('out', type=Path, help='folder of the shards to write')
    parser.add_argument(
        '--vae',
        required=True,
        metavar='PATH|NAME',
        help="diffusers' AutoencoderKL: a folder, or a name on the Hugging Face hub",
    )
    parser.add_argument(
        '--image-size',
        type=int,
        default=256,
        metavar='PIXELS',
        help='resize and crop images to this height and width (default: 256)',
    )
    parser.add_argument(
        '--shard-size',
        type=int,
        default=10000,
        metavar='N',
        help='images per shard (default: 10000)',
    )
    parser.add_argument(
        '--batch-size', type=int, default=32, metavar='N', help='images per batch (default: 32)'
    )
    parser.add_argument(
        '--num-workers',
        type=int,
        default=4,
        metavar='N',
        help='read images with N processes (default: 4)',
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Runs the command."""
    args = parse_args(argv)
    rank, world_size = (int(os.environ.get(k, d)) for k, d in (('RANK', 0), ('WORLD_SIZE', 1)))
    if min(args.image_size, args.shard_size, args.batch_size) < 1:
        raise UserError('Expected --image-size, --shard-size and --batch-size of 1 or more.')
    try:
        folder = ImageFolder(args.images)
    except OSError as error:
        raise UserError(f'{error} Expected images in {args.images}/CLASS/.') from error
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
            f'{info.num_shards - len(work)} of {info.num_shards} shards are complete.'
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
