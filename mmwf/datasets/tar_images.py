"""Labelled images in tar archives, which are read where they are."""

import json
import os
import re
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.fileio import LocalBackend, register_backend
from mmengine.logging import print_log

from mmwf.errors import UserError
from mmwf.files import write_text
from mmwf.registry import DATASETS

from .images import IMAGE_SUFFIXES

_ADDRESS = re.compile(r'tar://(.+?)#(\d+)\+(\d+)/.*')


class TarBackend(LocalBackend):
    """Reads members of tar archives from addresses ``tar://ARCHIVE#OFFSET+SIZE/MEMBER``."""

    def get(self, filepath: str | Path) -> bytes:
        """Returns the bytes of a member.

        Raises:
            OSError: If the archive does not exist or is shorter than the address says.
        """
        match = _ADDRESS.fullmatch(str(filepath))
        if match is None:
            raise OSError(f'expected tar://ARCHIVE#OFFSET+SIZE/MEMBER, got {filepath}')
        archive, offset, size = match[1], int(match[2]), int(match[3])
        with open(archive, 'rb') as file:
            file.seek(offset)
            data = file.read(size)
        if len(data) < size:
            raise OSError(f'{archive} ends after {len(data)} of the {size} bytes at {offset}')
        return data


register_backend('mmwf.TarBackend', TarBackend, prefixes='tar', force=True)


def _members(file: BinaryIO, folder: str = '') -> Iterator[tuple[str, int, int]]:
    """Yields name, offset and size of the files in an archive and in archives inside it."""
    with tarfile.open(fileobj=file, mode='r:') as archive:
        for member in archive:
            if not member.isfile():
                continue
            name = f'{folder}{member.name}'.removeprefix('./')
            if name.endswith('.tar'):
                position = file.tell()
                file.seek(member.offset_data)
                yield from _members(file, f'{name.removesuffix(".tar")}/')
                file.seek(position)
            else:
                yield name, member.offset_data, member.size


def _scan(path: Path) -> list[list]:
    """Returns name, offset, size and class of the images in an archive.

    The class is the number in ``KEY.cls`` beside ``KEY.jpg``, else the name of the folder or None.
    """
    images, labels = [], {}
    with path.open('rb') as file:
        for name, offset, size in _members(file):
            key, suffix = os.path.splitext(name)
            if suffix == '.cls':
                position = file.tell()
                file.seek(offset)
                labels[key] = int(file.read(size))
                file.seek(position)
            elif suffix.lower() in IMAGE_SUFFIXES:
                images.append([name, offset, size])
    for image in images:
        name = image[0]
        image.append(labels.get(os.path.splitext(name)[0], PurePosixPath(name).parent.name or None))
    return images


def list_tar_images(path: Path) -> list[list]:
    """Lists the images in a tar archive, from the index beside it if that is up to date.

    Args:
        path: The archive. The index ``PATH.index.json`` is written if the folder allows it.

    Returns:
        Name, offset in bytes, size in bytes and class of each image. The class is a number, the
        name of a folder, or None.

    Raises:
        UserError: If the archive cannot be read.
    """
    index = path.with_name(f'{path.name}.index.json')
    try:
        status = path.stat()
        state = [status.st_size, status.st_mtime_ns]
        if index.is_file():
            content = json.loads(index.read_text())
            if content['archive'] == state:
                return content['images']
        images = _scan(path)
    except (OSError, tarfile.TarError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f'Cannot list the images in {path}: {error}. Expected an uncompressed tar archive; '
            f'delete {index.name} if that is damaged.'
        ) from error
    try:
        write_text(index, json.dumps(dict(archive=state, images=images)))
    except UserError as error:
        print_log(f'The list of images in {path} is not kept: {error}', logger='current')
    return images


@DATASETS.register_module()
class TarImages(BaseDataset):
    """Labelled images in tar archives, for mmpretrain's pipelines.

    Images are read in any order, so that shuffling and resuming are the sampler's, as with files
    in folders. The first run lists each archive and keeps the list beside it.

    Labels come from one of:

    - WebDataset shards with ``KEY.jpg`` (or another image) and ``KEY.cls``, the label as text;
    - one folder or one inner archive per class, as in ``ILSVRC2012_img_train.tar``: labels are the
      indices of the sorted names;
    - ``ann_file`` with lines ``NAME LABEL``, as for ``ILSVRC2012_img_val.tar``.

    Args:
        shards: Names of the archives in ``data_root``, with wildcards.
        ann_file, data_root, metainfo, pipeline, ...: As in MMEngine's BaseDataset.

    Raises:
        UserError: If there are no archives or images, an archive cannot be read, or an image has no
            label.
    """

    def __init__(self, shards: str | Sequence[str], *, ann_file: str = '', **kwargs):
        self.shards = [shards] if isinstance(shards, str) else list(shards)
        super().__init__(ann_file=ann_file, **kwargs)

    @property
    def CLASSES(self) -> Sequence[str] | None:
        """The class names, or None."""
        return self.metainfo.get('classes')

    def get_gt_labels(self) -> np.ndarray:
        """Returns the labels of all images, (N,)."""
        return np.array([self.get_data_info(i)['gt_label'] for i in range(len(self))])

    def load_data_list(self) -> list[dict]:
        """Returns ``img_path`` and ``gt_label`` of each image."""
        root = Path(self.data_root or '.')
        paths = sorted({path for pattern in self.shards for path in root.glob(pattern)})
        if not paths:
            raise UserError(f'There is no archive {" or ".join(self.shards)} in {root}.')
        images = [(path, *image) for path in paths for image in list_tar_images(path)]
        if not images:
            raise UserError(f'There are no images in {", ".join(map(str, paths))}.')
        if self.ann_file:
            labels = self._read_annotations()
            images = [(*image[:-1], labels.get(PurePosixPath(image[1]).name)) for image in images]
        names = sorted({image[-1] for image in images if isinstance(image[-1], str)})
        number = {name: i for i, name in enumerate(names)}
        if names and 'classes' not in self._metainfo:
            self._metainfo['classes'] = tuple(names)
        data = []
        for path, name, offset, size, label in images:
            if label is None or isinstance(label, int) and names:
                raise UserError(
                    f'{path}: {name} has no label. Expected {os.path.splitext(name)[0]}.cls beside '
                    'it, a folder named after its class, or its name in ann_file.'
                )
            address = f'tar://{path}#{offset}+{size}/{name}'
            data.append(dict(img_path=address, gt_label=number.get(label, label)))
        return data

    def _read_annotations(self) -> dict[str, int]:
        labels = {}
        for i, line in enumerate(Path(self.ann_file).read_text().splitlines(), 1):
            try:
                name, label = line.rsplit(maxsplit=1)
                labels[PurePosixPath(name).name] = int(label)
            except ValueError:
                raise UserError(
                    f'{self.ann_file}, line {i}: expected NAME LABEL, got {line!r}.'
                ) from None
        return labels
