"""The two formats of ``torch.save``, read without ``torch.load``.

Since torch 1.6, a file is an uncompressed zip archive: ``NAME/data.pkl`` holds the pickled objects
and ``NAME/data/KEY`` the bytes of each storage. Older files are a sequence: pickles of a magic
number, a version, the writer's system, the objects and the keys of the storages; then each
storage's number of elements (int64) and bytes.
"""

import io
import pickle
import struct
import zipfile
from pathlib import Path

import torch

from mmwf.errors import UserError

from .unpickling import Storage, StorageType, Unpickler

MAGIC = 0x1950A86A20F9469CFC6C


def _parse_id(pid) -> tuple[torch.dtype, str, int]:
    """Returns type, key and number of elements of a storage from its persistent id."""
    if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != 'storage' or any(pid[5:]):
        raise pickle.UnpicklingError('a persistent id that is not of a storage')
    kind, key, _, number = pid[1:5]
    if not isinstance(kind, StorageType) or not isinstance(key, str) or type(number) is not int:
        raise pickle.UnpicklingError('a storage without a type, a key or a size')
    return kind.dtype, key, number


def _to_tensor(data: bytes, device) -> torch.Tensor:
    if not data:
        return torch.empty(0, dtype=torch.uint8, device=device)
    return torch.frombuffer(bytearray(data), dtype=torch.uint8).to(device)


def _read_zip(archive: zipfile.ZipFile, device, foreign: set[str]):
    memories: dict[str, torch.Tensor] = {}
    names = archive.namelist()
    if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
        raise pickle.UnpicklingError('its parts are compressed')
    roots = [name.removesuffix('/data.pkl') for name in names if name.endswith('/data.pkl')]
    if len(roots) != 1:
        raise pickle.UnpicklingError(f'expected one data.pkl, got {len(roots)}')
    order = f'{roots[0]}/byteorder'
    if order in names and archive.read(order) != b'little':
        raise pickle.UnpicklingError('it was written on a big-endian machine')

    def load_storage(pid) -> Storage:
        dtype, key, number = _parse_id(pid)
        if key not in memories:
            memories[key] = _to_tensor(archive.read(f'{roots[0]}/data/{key}'), device)
        if memories[key].numel() != number * dtype.itemsize:
            raise pickle.UnpicklingError(
                f'storage {key} has {memories[key].numel()} bytes instead of {number} elements'
            )
        return Storage(memories[key], dtype)

    pickled = io.BytesIO(archive.read(f'{roots[0]}/data.pkl'))
    return Unpickler(pickled, load_storage, foreign).load()


def _read_sequence(file: io.BufferedReader, size: int, device, foreign: set[str]):
    storages: dict[str, Storage] = {}

    def load_storage(pid) -> Storage:
        dtype, key, number = _parse_id(pid)
        if key not in storages:
            used = sum(storage.memory.numel() for storage in storages.values())
            if not 0 <= number * dtype.itemsize <= size - used:
                raise pickle.UnpicklingError(f'storages of more than {size} bytes')
            memory = torch.empty(number * dtype.itemsize, dtype=torch.uint8, device=device)
            storages[key] = Storage(memory, dtype)
        return storages[key]

    def load():
        return Unpickler(file, load_storage, foreign).load()

    if load() != MAGIC:
        raise pickle.UnpicklingError('it does not start with the magic number of torch.save')
    load(), load()  # version and system
    content, keys = load(), load()
    if not isinstance(keys, list) or set(keys) != set(storages):
        raise pickle.UnpicklingError('its storages are not those of its tensors')
    for key in keys:
        memory, dtype = storages[key]
        (number,) = struct.unpack('<q', file.read(8))
        data = file.read(memory.numel())
        if number * dtype.itemsize != memory.numel() or len(data) != memory.numel():
            raise pickle.UnpicklingError(f'storage {key} is incomplete')
        memory.copy_(_to_tensor(data, device))
    return content


def read_torch_file(path: Path, device: str | torch.device | None, foreign: set[str]):
    """Reads a file of ``torch.save`` without running code in it.

    Args:
        path: The file.
        device: Device of the tensors; None is the CPU.
        foreign: Gets the names of objects that are not part of a checkpoint of weights; in the
            result, they are empty dicts.

    Returns:
        The objects in the file.

    Raises:
        UserError: If the file is a TorchScript program.
        Exception: Of any type, if it is damaged.
    """
    with path.open('rb') as file:
        if not zipfile.is_zipfile(file):
            file.seek(0)
            return _read_sequence(file, path.stat().st_size, device, foreign)
        with zipfile.ZipFile(file) as archive:
            if any(name.endswith('/constants.pkl') for name in archive.namelist()):
                raise UserError(
                    f'{path} is a TorchScript program; expected a checkpoint with weights.'
                )
            return _read_zip(archive, device, foreign)
