"""Writing checkpoints completely or not at all, each with its SHA-256 digest beside it.

:func:`install_writer`, which ``import mmwf`` calls, makes MMEngine write local files this way:
``runner.save_checkpoint``, its CheckpointHook, and ``mmengine.dump``.
"""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import torch
from mmengine.fileio import LocalBackend, register_backend

from mmwf.files import atomic_write, write_bytes, write_text

CHECKPOINT_SUFFIX = '.pth'


def digest_path(path: str | Path) -> Path:
    """Returns the file with the digest of a checkpoint, in the format of ``sha256sum``.

    It is beside the file itself, not beside a link to it.
    """
    return Path(f'{os.path.realpath(path)}.sha256')


def _write_checkpoint(path: Path, data: bytes) -> None:
    with ThreadPoolExecutor(1) as pool:
        digest = pool.submit(hashlib.sha256, data)  # while the file is written
        with atomic_write(path, len(data)) as file:
            file.write(data)
            # A checkpoint without digest is readable, one with the digest of another is not.
            digest_path(path).unlink(missing_ok=True)
    write_text(digest_path(path), f'{digest.result().hexdigest()}  {path.name}\n')


def save_checkpoint(checkpoint: dict, path: str | Path) -> None:
    """Writes a checkpoint and its digest.

    Args:
        checkpoint: What ``torch.save`` writes.
        path: The ``.pth`` to write; the digest goes to ``PATH.sha256``.

    Raises:
        UserError: If it cannot be written. An earlier checkpoint of this name is intact.
    """
    with BytesIO() as buffer:
        torch.save(checkpoint, buffer)
        _write_checkpoint(Path(path), buffer.getvalue())


class AtomicLocalBackend(LocalBackend):
    """MMEngine's backend for local files; files get their names once they are complete.

    Checkpoints, which end in ``.pth``, get a digest beside them, and lose it with their removal.
    """

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Writes bytes to a file.

        Raises:
            UserError: If that is not possible.
        """
        path = Path(filepath)
        (_write_checkpoint if path.suffix == CHECKPOINT_SUFFIX else write_bytes)(path, bytes(obj))

    def put_text(self, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
        """Writes a text to a file.

        Raises:
            UserError: If that is not possible.
        """
        write_bytes(filepath, obj.encode(encoding))

    def remove(self, filepath: str | Path) -> None:
        """Removes a file, and the digest of a checkpoint."""
        super().remove(filepath)
        if Path(filepath).suffix == CHECKPOINT_SUFFIX:
            digest_path(filepath).unlink(missing_ok=True)


def install_writer() -> None:
    """Makes MMEngine write local files with :class:`AtomicLocalBackend`."""
    register_backend('local', AtomicLocalBackend, force=True, prefixes='')
