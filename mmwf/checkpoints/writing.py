"""Writing checkpoints completely or not at all, each with its SHA-256 digest beside it.

:func:`install_writer`, which ``import mmwf`` calls, makes MMEngine write local files this way:
``runner.save_checkpoint``, its CheckpointHook, and ``mmengine.dump``.
"""

import hashlib
import logging
import os
import threading
from io import BytesIO
from pathlib import Path

import torch
from mmengine.fileio import LocalBackend, register_backend
from mmengine.logging import print_log

from mmwf.errors import UserError
from mmwf.files import atomic_write, write_bytes, write_text

CHECKPOINT_SUFFIX = '.pth'
_digests: dict[Path, threading.Thread] = {}  # that are being computed, by checkpoint


def digest_path(path: str | Path) -> Path:
    """Returns the file with the digest of a checkpoint, in the format of ``sha256sum``.

    It is beside the file itself, not beside a link to it.
    """
    return Path(f'{os.path.realpath(path)}.sha256')


def _write_checkpoint(path: Path, data: bytes) -> None:
    finish_digests()
    with atomic_write(path, len(data)) as file:
        file.write(data)
        # A checkpoint without digest is readable, one with the digest of another is not.
        digest_path(path).unlink(missing_ok=True)


def _write_digest(path: Path, data: bytes) -> None:
    write_text(digest_path(path), f'{hashlib.sha256(data).hexdigest()}  {path.name}\n')


def _write_digest_later(path: Path, data: bytes) -> None:
    def write() -> None:
        try:
            _write_digest(path, data)
        except UserError as error:
            print_log(f'{path} has no digest: {error}', 'current', logging.WARNING)

    _digests[path] = threading.Thread(target=write)
    _digests[path].start()


def finish_digests() -> None:
    """Waits until the digests of all checkpoints that this process has saved are written."""
    while _digests:
        _digests.popitem()[1].join()


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
        data = buffer.getvalue()
    _write_checkpoint(Path(path), data)
    _write_digest(Path(path), data)


class AtomicLocalBackend(LocalBackend):
    """MMEngine's backend for local files; files get their names once they are complete.

    Checkpoints, which end in ``.pth``, get a digest beside them, and lose it with their removal.
    The digest is computed while the program continues: it takes as long as the writing.
    """

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Writes bytes to a file.

        Raises:
            UserError: If that is not possible.
        """
        path = Path(filepath)
        if path.suffix == CHECKPOINT_SUFFIX:
            _write_checkpoint(path, obj)
            _write_digest_later(path, obj)
        else:
            write_bytes(path, obj)

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
            if Path(filepath) in _digests:
                finish_digests()
            digest_path(filepath).unlink(missing_ok=True)


def install_writer() -> None:
    """Makes MMEngine write local files with :class:`AtomicLocalBackend`."""
    register_backend('local', AtomicLocalBackend, force=True, prefixes='')
