"""Images as latents of a VAE, computed once and kept in shards.

A shard is a safetensors file of N images with C-channel latents of h x w:

    moments  (N, 2, 2C, h, w), float16: of the image and of its mirror image, C channels of means,
             then C of standard deviations, not scaled
    labels   (N,), int64
    crc32    (N, 2), int64: checksums of ``moments[i, j]`` and ``labels[i]``

and its metadata say where it comes from (:class:`ShardInfo`).
"""

import json
import logging
import os
import re
import zlib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate, chain
from pathlib import Path

import torch
from mmengine.logging import print_log
from mmengine.structures import BaseDataElement
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.data import Dataset

from mmwf.errors import UserError
from mmwf.registry import DATASETS

METADATA_KEY = 'mmwf_latents'
TOOL = 'tools/dataset_converters/imagenet_to_latents.py'


class DamagedShardError(UserError):
    """A shard that cannot be read; the message names it."""


@dataclass
class ShardInfo:
    """What a shard says about itself.

    Attributes:
        index: Which shard of the data set it is, from 0 on.
        vae: Where the VAE was loaded from.
        vae_hash: :func:`mmwf.checkpoint.hash_weights` of it.
        image_size: Side of the images, in pixels.
        classes: Names of the classes, in the order of the labels.
        num_images: Number of images in all shards together.
        num_shards: Number of shards.
    """

    index: int
    vae: str
    vae_hash: str
    image_size: int
    classes: list[str]
    num_images: int
    num_shards: int

    def check_same(self, other: 'ShardInfo', mine: str, others: str) -> None:
        """Checks that two shards belong together.

        Raises:
            UserError: If not; the message names the first difference.
        """
        for name, value in asdict(self).items():
            theirs = getattr(other, name)
            # The same weights may lie in two places.
            if value != theirs and name not in ('index', 'vae'):
                raise UserError(
                    f'{mine} and {others} do not belong together: {name} is {_short(value)} and '
                    f'{_short(theirs)}. Make each data set in a folder of its own.'
                )


def _short(value) -> str:
    return f'a list of {len(value)}' if isinstance(value, list) else repr(value)


def shard_path(folder: str | Path, info: ShardInfo) -> Path:
    """The file of a shard."""
    return Path(folder) / f'latents-{info.index:05d}-of-{info.num_shards:05d}.safetensors'


def find_shards(folder: str | Path) -> dict[Path, int]:
    """Lists the shards in a folder, with their indices."""
    pattern = re.compile(r'latents-(\d+)-of-\d+\.safetensors')
    matches = {p: pattern.fullmatch(p.name) for p in sorted(Path(folder).glob('latents-*'))}
    return {path: int(match[1]) for path, match in matches.items() if match}


def write_shard(folder: Path, moments: Tensor, labels: Tensor, info: ShardInfo) -> None:
    """Writes a shard: the file has its name only when it is complete.

    Args:
        folder: Where to put it.
        moments: (N, 2, 2C, h, w), see above.
        labels: (N,), int64.
        info: What it says about itself.
    """
    moments = moments.half().contiguous()
    sums = [
        [_checksum(view, label) for view in views]
        for views, label in zip(moments, labels.tolist(), strict=True)
    ]
    tensors = dict(moments=moments, labels=labels, crc32=torch.tensor(sums))
    path = shard_path(folder, info)
    partial = path.with_suffix('.part')
    save_file(tensors, partial, metadata={METADATA_KEY: json.dumps(asdict(info))})
    os.replace(partial, path)


def read_shard_info(path: Path) -> ShardInfo:
    """Reads what a shard says about itself.

    Raises:
        DamagedShardError: If the file is truncated, no shard of latents, or renamed.
    """
    with _open(path) as file:
        try:
            info = ShardInfo(**json.loads((file.metadata() or {})[METADATA_KEY]))
        except (KeyError, TypeError, ValueError) as error:
            raise DamagedShardError(
                f'{path} is no shard of latents: its metadata {METADATA_KEY!r} are missing or '
                f'damaged. Expected a file that {TOOL} wrote.'
            ) from error
    if path != shard_path(path.parent, info):
        raise DamagedShardError(f'{path} is a copy of {shard_path(path.parent, info).name}.')
    return info


def _checksum(moments: Tensor, label: int) -> int:
    return zlib.crc32(moments.numpy(), zlib.crc32(label.to_bytes(8, 'little', signed=True)))


def _open(path: Path) -> safe_open:
    try:
        return safe_open(path, 'pt')
    except (OSError, SafetensorError) as error:
        raise DamagedShardError(f'The shard {path} is damaged or truncated: {error}.') from error


@DATASETS.register_module()
class LatentDataset(Dataset):
    """Latents of images for training a diffusion model.

    A latent is drawn from the VAE's distribution, ``scale * (mean + std * noise)``, and half of the
    time from that of the mirror image. Only the images that are asked for are read from disk.

    Args:
        data_root: Folder with the shards that tools/dataset_converters/imagenet_to_latents.py made.
        shape: Expected shape (C, h, w) of a latent; None takes any.
        vae_hash: Expected hash of the VAE's weights, as the tool prints it; None takes any, the
            same for all shards.
        scale: Factor on the latents that gives them about unit variance.
        flip_prob: Probability of the mirror image.
        damaged: What to do about damaged shards and images: ``'refuse'`` raises an error,
            ``'skip'`` warns and goes on without them.

    Raises:
        UserError: If there are no shards, if some are missing, if they do not belong together, or
            if shape or VAE are not the expected ones.
    """

    def __init__(
        self,
        data_root: str,
        *,
        shape: Sequence[int] | None = None,
        vae_hash: str | None = None,
        scale: float = 0.18215,
        flip_prob: float = 0.5,
        damaged: str = 'refuse',
    ):
        if damaged not in ('refuse', 'skip'):
            raise ValueError(f"Expected damaged to be 'refuse' or 'skip', got {damaged!r}.")
        self.scale = scale
        self.flip_prob = flip_prob
        self.damaged = damaged
        self._files = {}  # open shards of this process
        self._warned = set()
        shards = find_shards(data_root)
        if not shards:
            raise UserError(
                f'There are no shards latents-*.safetensors in {Path(data_root).absolute()}. '
                f'Make them: python {TOOL} IMAGES {data_root} --vae VAE.'
            )
        self.info, self.shards, counts = None, [], []
        for path in shards:
            try:
                info, (count, _, channels, *sides) = read_shard_info(path), self._shape(path)
            except DamagedShardError as error:
                self._give_up_or_warn(path, error)
                continue
            if self.shards:
                info.check_same(self.info, str(path), str(self.shards[0]))
            self.info = info
            found = (channels // 2, *sides)
            if shape is not None and tuple(shape) != found:
                raise UserError(
                    f'Expected latents of shape {tuple(shape)}, and those of {path} have {found} '
                    f'(of images {info.image_size} x {info.image_size}). Set shape to what the '
                    'shards hold, or make shards of the right image size.'
                )
            self.shards.append(path)
            counts.append(count)
        if not self.shards:
            raise UserError(f'All {len(shards)} shards in {data_root} are damaged.')
        self._check_complete(set(shards.values()))
        if vae_hash is not None and vae_hash != self.info.vae_hash:
            raise UserError(
                f'{data_root} holds latents of the VAE {self.info.vae} ({self.info.vae_hash}), '
                f'expected those of {vae_hash}. Make latents with the VAE that is expected, or set '
                'vae_hash.'
            )
        self._ends = list(accumulate(counts))

    def _check_complete(self, indices: set[int]) -> None:
        missing = sorted(set(range(self.info.num_shards)) - indices)
        if missing:
            names = ', '.join(map(str, missing[:5])) + ', ...' * (len(missing) > 5)
            raise UserError(
                f'{len(missing)} of {self.info.num_shards} shards are missing in '
                f'{self.shards[0].parent}: {names}. Run {TOOL} again with the same arguments: it '
                'makes only the missing ones.'
            )

    @property
    def metainfo(self) -> dict:
        """The names of the classes, and the hash of the VAE's weights."""
        return dict(classes=self.info.classes, vae_hash=self.info.vae_hash)

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> dict:
        """Draws a latent.

        Returns:
            ``inputs``, (C, h, w), float32, scaled; ``data_samples`` with ``label``.

        Raises:
            DamagedShardError: If the image is damaged and ``damaged='refuse'``; with ``'skip'`` the
                next one takes its place.
        """
        flip = int(torch.rand(()) < self.flip_prob)
        for candidate in chain(range(index, len(self)), range(index)):
            shard = bisect_right(self._ends, candidate)
            path, start = self.shards[shard], self._ends[shard - 1] if shard else 0
            try:
                moments, label = self._read(path, candidate - start, flip)
            except DamagedShardError as error:
                self._give_up_or_warn(path, error)
                continue
            mean, std = moments.float().chunk(2)
            latent = self.scale * (mean + std * torch.randn_like(std))
            return dict(inputs=latent, data_samples=BaseDataElement(label=label))
        raise DamagedShardError(f'Every image in {self.shards[0].parent} is damaged.')

    def __getstate__(self) -> dict:
        return dict(self.__dict__, _files={})  # open files do not go to other processes

    def _file(self, path: Path) -> safe_open:
        if path not in self._files:
            self._files[path] = _open(path)
        return self._files[path]

    def _shape(self, path: Path) -> list[int]:
        """The shape of the moments in a shard, (N, 2, 2C, h, w)."""
        return self._file(path).get_slice('moments').get_shape()

    def _read(self, path: Path, index: int, flip: int) -> tuple[Tensor, int]:
        """Reads one image of a shard: its moments (2C, h, w) and its label."""
        file = self._file(path)
        moments = file.get_slice('moments')[index, flip]
        label = file.get_slice('labels')[index].item()
        if _checksum(moments, label) != file.get_slice('crc32')[index, flip].item():
            raise DamagedShardError(
                f'Image {index} of the shard {path} is damaged: its checksum is wrong. Remove the '
                f'shard and run {TOOL} again.'
            )
        return moments, label

    def _give_up_or_warn(self, path: Path, error: DamagedShardError) -> None:
        if self.damaged == 'refuse':
            raise DamagedShardError(f"{error} (damaged='skip' goes on without it.)") from error
        if path not in self._warned:
            self._warned.add(path)
            print_log(f'{error} Going on without it.', logger='current', level=logging.WARNING)
