"""Writing files that are either complete or absent, and hashes of files.

A file is written under another name beside its own, flushed to the disk, and then renamed. So a
crash, a kill or a full disk leaves the earlier file of that name intact.
"""

import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from .errors import UserError

PARTIAL = '.part'  # the last suffix of a file that is being written

#: Errors that only writing can raise: the disk takes no more, or nothing at all.
FULL_OR_READ_ONLY = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


def format_size(num_bytes: int) -> str:
    """Formats a number of bytes, such as ``'325.5 MB'``."""
    for unit, factor in (('GB', 1e9), ('MB', 1e6), ('kB', 1e3)):
        if num_bytes >= factor:
            return f'{num_bytes / factor:.1f} {unit}'
    return f'{num_bytes} bytes'


def hash_file(path: str | Path) -> str:
    """Returns the SHA-256 of a file, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with Path(path).open('rb') as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _explain(path: Path, error: OSError, size: int) -> str:
    folder = next((p for p in path.parents if p.is_dir()), Path('/'))
    message = f'Cannot write {path}: {error.strerror or error}.'
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        free = format_size(shutil.disk_usage(folder).free)
        message += f' It needs {format_size(size)}; {free} are free.'
        if error.errno != errno.ENOSPC:
            message += ' The size of files is limited here: see ulimit -f and quota.'
    return f'{message} An earlier file of this name is intact.'


@contextlib.contextmanager
def atomic_write(path: str | Path, size: int = 0, sync: bool = True) -> Iterator[BinaryIO]:
    """Opens a file for writing, which gets its name once it is complete.

    The body should do nothing but write: its errors of type OSError are taken for errors of
    writing. It may also write to the path ``file.name``. Links are followed; what is not a regular
    file, such as ``/dev/stdout``, is written directly.

    Args:
        path: The file. Its folder is created.
        size: Number of bytes that will be written, if known: without space for them, nothing is
            written.
        sync: Whether to wait until the content is on the disk, so that it also survives a power
            failure.

    Raises:
        UserError: If the file cannot be written; the message has the path and the space needed.
    """
    path = Path(os.path.realpath(path))
    partial = path.with_name(f'{path.name}.{os.getpid()}{PARTIAL}')
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            with path.open('wb') as file:
                yield file
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        if size > shutil.disk_usage(path.parent).free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with partial.open('wb') as file:
            yield file
            file.flush()
            if sync:
                os.fsync(file.fileno())
        os.replace(partial, path)
        if sync:
            _sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            size = max(size, partial.stat().st_size)
        raise UserError(_explain(path, error, size)) from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Waits until the names in a folder are on the disk; some file systems cannot do that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_bytes(path: str | Path, data: bytes, sync: bool = True) -> None:
    """Writes a file as :func:`atomic_write` does."""
    with atomic_write(path, len(data), sync) as file:
        file.write(data)


def write_text(path: str | Path, text: str) -> None:
    """Writes a text in UTF-8 as :func:`atomic_write` does."""
    write_bytes(path, text.encode())


def write_json(path: str | Path, content) -> None:
    """Writes JSON as :func:`atomic_write` does."""
    write_text(path, json.dumps(content, indent=2) + '\n')


def remove_partial(folder: str | Path) -> list[Path]:
    """Removes the files in a folder that processes were writing when they were killed.

    No other process may be writing to the folder.

    Returns:
        The removed files.
    """
    removed = [path for path in Path(folder).glob(f'*{PARTIAL}') if path.is_file()]
    for path in removed:
        path.unlink(missing_ok=True)
    return removed
