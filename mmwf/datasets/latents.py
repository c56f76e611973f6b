"""Precomputed VAE latents of images, stored in shards.

A shard is a safetensors file with C-channel latents of size h x w of N images:

    moments  (N, 2, 2C, h, w), float16: for the image and its horizontal flip, C channels of means
             and C channels of standard deviations, unscaled
    labels   (N,), int64
    crc32    (N, 2), int64: checksums of ``moments[i, j]`` together with ``labels[i]``

Its metadata hold a :class:`ShardInfo`.
"""

import json
import logging
import re
import zlib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate, chain, islice
from pathlib import Path

import torch
from mmengine.logging import print_log
from mmengine.structures import BaseDataElement
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.utils.data import Dataset

from mmwf.errors import UserError
from mmwf.files import write_bytes
from mmwf.registry import DATASETS

METADATA_KEY = 'mmwf_latents'
TENSORS = ('moments', 'labels', 'crc32')
TOOL = 'tools/dataset_converters/imagenet_to_latents.py'


class DamagedShardError(UserError):
    """A shard, or an image in it, cannot be read; the message names it."""


@dataclass
class ShardInfo:
    """Metadata of a shard.

    Attributes:
        index: Index of the shard in the dataset.
        vae: Folder or hub name of the VAE.
        vae_hash: :func:`mmwf.checkpoints.hash_weights` of the VAE.
        image_size: Side of the images in pixels.
        classes: Class names in the order of the labels.
        num_images: Number of images in the whole dataset.
        num_shards: Number of shards in the dataset.
    """

    index: int
    vae: str
    vae_hash: str
    image_size: int
    classes: list[str]
    num_images: int
    num_shards: int

    def __post_init__(self):
        numbers = (self.index, self.image_size, self.num_images, self.num_shards)
        if not all(type(n) is int and n >= 0 for n in numbers) or self.index >= self.num_shards:
            raise ValueError('expected non-negative integers, and an index below num_shards')
        if not isinstance(self.classes, list):
            raise TypeError('expected a list of classes')

    def check_same(self, other: 'ShardInfo', name: str, other_name: str) -> None:
        """Checks that two shards belong to the same dataset.

        Args:
            other: Metadata of the other shard.
            name, other_name: Names of the two shards in the message.

        Raises:
            UserError: If they differ; the message names the first difference.
        """
        for key, value in asdict(self).items():
            other_value = getattr(other, key)
            # The VAE's folder may differ: the hash identifies its weights.
            if value != other_value and key not in ('index', 'vae'):
                raise UserError(
                    f'{name} and {other_name} do not belong together: {key} is {_shorten(value)} '
                    f'and {_shorten(other_value)}. Use one folder per dataset.'
                )


def _shorten(value) -> str:
    return f'a list of {len(value)}' if isinstance(value, list) else repr(value)


def shard_path(folder: str | Path, info: ShardInfo) -> Path:
    """Returns the path of a shard."""
    return Path(folder) / f'latents-{info.index:05d}-of-{info.num_shards:05d}.safetensors'


def find_shards(folder: str | Path) -> dict[Path, int]:
    """Lists the shards in a folder with their indices."""
    pattern = re.compile(r'latents-(\d+)-of-\d+\.safetensors')
    matches = {p: pattern.fullmatch(p.name) for p in sorted(Path(folder).glob('latents-*'))}
    return {path: int(match[1]) for path, match in matches.items() if match}


def write_shard(folder: Path, moments: Tensor, labels: Tensor, info: ShardInfo) -> None:
    """Writes a shard completely or not at all.

    Args:
        folder: Output folder.
        moments: (N, 2, 2C, h, w), see above.
        labels: (N,), int64.
        info: The metadata.

    Raises:
        UserError: If it cannot be written, or a moment is not finite in float16.
    """
    moments = moments.half().contiguous()
    broken = (~moments.flatten(1).isfinite().all(1)).sum().item()
    if broken:
        raise UserError(
            f'The latents of {broken} of {len(moments)} images of the shard {info.index} are not '
            f'finite in float16. Expected a VAE that works in the chosen precision; got '
            f'{info.vae}. Nothing was written.'
        )
    sums = [
        [_checksum(view, label) for view in views]
        for views, label in zip(moments, labels.tolist(), strict=True)
    ]
    tensors = dict(moments=moments, labels=labels, crc32=torch.tensor(sums))
    path = shard_path(folder, info)
    write_bytes(path, save(tensors, metadata={METADATA_KEY: json.dumps(asdict(info))}))


def read_shard_info(path: Path) -> ShardInfo:
    """Reads the metadata of a shard.

    Raises:
        DamagedShardError: If the file is truncated, not a shard of latents, or renamed.
    """
    with _open(path) as file:
        try:
            info = ShardInfo(**json.loads((file.metadata() or {})[METADATA_KEY]))
        except (KeyError, TypeError, ValueError) as error:
            raise DamagedShardError(
                f'{path} is not a shard of latents: its metadata {METADATA_KEY!r} are missing or '
                f'damaged. Expected a file written by {TOOL}.'
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
    """Precomputed latents of images, to train a diffusion model.

    An item is a sample ``scale * (mean + std * noise)`` from the VAE's distribution for the image
    or its horizontal flip.

    Args:
        data_root: Folder of shards made by tools/dataset_converters/imagenet_to_latents.py.
        shape: Expected shape (C, h, w) of a latent; None accepts any.
        vae_hash: Expected hash of the VAE's weights, as printed by the tool; None accepts any. It
            must be the same in all shards.
        scale: Factor that gives the latents about unit variance.
        flip_prob: Probability of a horizontal flip.
        on_error: ``'raise'`` an error for a damaged shard or image, or ``'skip'`` it with a
            warning.

    Raises:
        UserError: If there are no shards, some are missing, they do not belong together, or their
            shape or VAE is not the expected one.
    """

    def __init__(
        self,
        data_root: str,
        *,
        shape: Sequence[int] | None = None,
        vae_hash: str | None = None,
        scale: float = 0.18215,
        flip_prob: float = 0.5,
        on_error: str = 'raise',
    ):
        if on_error not in ('raise', 'skip'):
            raise ValueError(f"Expected on_error to be 'raise' or 'skip', got {on_error!r}.")
        self.scale = scale
        self.flip_prob = flip_prob
        self.on_error = on_error
        self._files = {}  # shards opened by this process
        self._warned = set()
        shards = find_shards(data_root)
        if not shards:
            raise UserError(
                f'There are no shards latents-*.safetensors in {Path(data_root).absolute()}. '
                f'Make them with: python {TOOL} IMAGES {data_root} --vae VAE.'
            )
        self.info, self.shards, counts = None, [], []
        for path in shards:
            try:
                info, (count, _, channels, *sides) = read_shard_info(path), self._shape(path)
            except DamagedShardError as error:
                self._raise_or_warn(path, error)
                continue
            if self.shards:
                info.check_same(self.info, str(path), str(self.shards[0]))
            self.info = info
            latent_shape = (channels // 2, *sides)
            if shape is not None and tuple(shape) != latent_shape:
                raise UserError(
                    f'Expected latents of shape {tuple(shape)}, got {latent_shape} in {path}, from '
                    f'images of {info.image_size} x {info.image_size} pixels. Set shape to that of '
                    'the shards, or make shards with another --image-size.'
                )
            self.shards.append(path)
            counts.append(count)
        if not self.shards:
            raise UserError(f'All {len(shards)} shards in {data_root} are damaged.')
        self._check_complete(set(shards.values()))
        if vae_hash is not None and vae_hash != self.info.vae_hash:
            raise UserError(
                f'Expected latents of the VAE {vae_hash}, got those of {self.info.vae_hash} '
                f'({self.info.vae}) in {data_root}. Make shards with the expected VAE, or change '
                'vae_hash.'
            )
        self._ends = list(accumulate(counts))

    def _check_complete(self, indices: set[int]) -> None:
        number = self.info.num_shards - len(indices)
        if number > 0:
            # Not all of them at once: their number comes from a file.
            missing = (index for index in range(self.info.num_shards) if index not in indices)
            names = ', '.join(map(str, islice(missing, 5))) + ', ...' * (number > 5)
            raise UserError(
                f'{number} of {self.info.num_shards} shards are missing in '
                f'{self.shards[0].parent}: {names}. Run {TOOL} again with the same arguments; '
                'it makes only the missing ones.'
            )

    @property
    def metainfo(self) -> dict:
        """The class names and the hash of the VAE's weights."""
        return dict(classes=self.info.classes, vae_hash=self.info.vae_hash)

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> dict:
        """Samples a latent.

        Returns:
            ``inputs``, (C, h, w), float32, scaled; ``data_samples`` with ``label``.

        Raises:
            DamagedShardError: If the image is damaged and ``on_error='raise'``; with ``'skip'`` the
                next image is used instead.
        """
        flip = int(torch.rand(()) < self.flip_prob)
        for candidate in chain(range(index, len(self)), range(index)):
            shard = bisect_right(self._ends, candidate)
            path, start = self.shards[shard], self._ends[shard - 1] if shard else 0
            try:
                moments, label = self._read(path, candidate - start, flip)
            except DamagedShardError as error:
                self._raise_or_warn(path, error)
                continue
            mean, std = moments.float().chunk(2)
            latent = self.scale * (mean + std * torch.randn_like(std))
            return dict(inputs=latent, data_samples=BaseDataElement(label=label))
        raise DamagedShardError(f'Every image in {self.shards[0].parent} is damaged.')

    def __getstate__(self) -> dict:
        return dict(self.__dict__, _files={})  # open files cannot be pickled

    def _file(self, path: Path) -> safe_open:
        if path not in self._files:
            self._files[path] = _open(path)
        return self._files[path]

    def _shape(self, path: Path) -> list[int]:
        """Returns the shape of a shard's moments, (N, 2, 2C, h, w).

        Raises:
            DamagedShardError: If the tensors of the shard do not have the shapes of a shard.
        """
        try:
            shapes = {key: self._file(path).get_slice(key).get_shape() for key in TENSORS}
        except SafetensorError as error:
            raise DamagedShardError(f'The shard {path} is not complete: {error}.') from error
        shape = shapes['moments']
        number, views, channels = (*shape[:3], 0, 0, 0)[:3]
        fits = len(shape) == 5 and views == 2 and channels % 2 == 0 and min(shape) > 0
        if not fits or shapes['labels'] != [number] or shapes['crc32'] != [number, 2]:
            raise DamagedShardError(
                f'The shard {path} has tensors of the shapes {shapes}; expected moments '
                '(N, 2, 2C, h, w), labels (N,) and crc32 (N, 2).'
            )
        return shape

    def _read(self, path: Path, index: int, flip: int) -> tuple[Tensor, int]:
        """Reads the moments (2C, h, w) and the label of an image."""
        file = self._file(path)
        moments = file.get_slice('moments')[index, flip]
        label = file.get_slice('labels')[index].item()
        if _checksum(moments, label) != file.get_slice('crc32')[index, flip].item():
            raise DamagedShardError(
                f'Image {index} of the shard {path} is damaged: its checksum is wrong. Remove the '
                f'shard and run {TOOL} again.'
            )
        if not moments.isfinite().all():
            raise DamagedShardError(
                f'Image {index} of the shard {path} has latents that are not finite. Remove the '
                f'shard and run {TOOL} again.'
            )
        if not 0 <= label < len(self.info.classes):
            raise DamagedShardError(
                f'Image {index} of the shard {path} has the label {label}, but there are '
                f'{len(self.info.classes)} classes.'
            )
        return moments, label

    def _raise_or_warn(self, path: Path, error: DamagedShardError) -> None:
        if self.on_error == 'raise':
            raise DamagedShardError(f"{error} Set on_error='skip' to skip it.") from error
        if path not in self._warned:
            self._warned.add(path)
            print_log(f'{error} It is skipped.', logger='current', level=logging.WARNING)
