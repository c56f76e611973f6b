"""Finding damaged checkpoints by the digest beside them and the checksums in them."""

import zipfile
from pathlib import Path

from mmwf.errors import UserError
from mmwf.files import hash_file

from .writing import digest_path


def describe_damage(path: Path, reason: Exception | str) -> str:
    """Returns the message about a damaged file."""
    reason = str(reason) or type(reason).__name__
    return f'{path} ({path.stat().st_size} bytes) is damaged or not a checkpoint: {reason}'


def check_digest(path: Path) -> None:
    """Compares a file with the digest beside it, if there is one.

    Raises:
        UserError: If they differ.
    """
    try:
        words = digest_path(path).read_text(errors='replace').split()
    except OSError:
        return
    if not words:
        return
    if (found := hash_file(path)) != words[0]:
        raise UserError(
            f'{path} ({path.stat().st_size} bytes) is damaged: its SHA-256 is {found[:16]}..., '
            f'expected {words[0][:16]}... (in {digest_path(path)}). If you replaced it on purpose, '
            'remove that file.'
        )


def check_intact(path: Path) -> None:
    """Checks a file against the digest beside it, if there is one, and the checksums in it.

    Raises:
        UserError: If it is damaged. ``.safetensors`` and the format before torch 1.6 have no
            checksums.
    """
    check_digest(path)
    with path.open('rb') as file:
        if file.read(4) != b'PK\x03\x04':  # how torch decides
            return
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except Exception as error:  # of any type: zipfile interprets damaged headers
        raise UserError(describe_damage(path, error)) from error
    if damaged:
        raise UserError(describe_damage(path, f'the checksum of its member {damaged} is wrong'))
