"""Downloading checkpoints from URLs and from the Hugging Face hub."""

import hashlib
import logging
import re
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from urllib.parse import urldefrag, urlparse

import torch
from filelock import FileLock
from mmengine.logging import print_log

from mmwf.errors import UserError
from mmwf.files import atomic_write, hash_file

HASH_IN_NAME = re.compile(r'-([0-9a-f]{8,64})\.[^.]+$')  # the convention of torch.hub
HASH_IN_FRAGMENT = re.compile(r'sha256=([0-9a-fA-F]{8,64})')


def is_url(path: str) -> bool:
    """Returns whether a path is a web address."""
    return path.startswith(('http://', 'https://'))


def cached_file(url: str) -> Path:
    """Returns where the file behind an address is kept: in ``torch.hub``'s folder of checkpoints.

    The host and a hash of the whole address, without a fragment, precede the name, so that files
    of the same name on other hosts or in other folders are other files.
    """
    address, _ = urldefrag(url)
    parts = urlparse(address)
    digest = hashlib.sha256(address.encode()).hexdigest()[:16]
    host = re.sub(r'[^\w.-]', '_', parts.netloc.rpartition('@')[2])
    name = PurePosixPath(parts.path).name or 'checkpoint'
    return Path(torch.hub.get_dir()) / 'checkpoints' / f'{host}-{digest}' / name


def _expected_hash(url: str) -> str:
    """Returns the SHA-256, or its beginning, that an address states; empty if it states none.

    Raises:
        UserError: If the address has another fragment than ``#sha256=...``.
    """
    address, fragment = urldefrag(url)
    if fragment:
        if stated := HASH_IN_FRAGMENT.fullmatch(fragment):
            return stated[1].lower()
        raise UserError(
            f'Expected an address that ends in #sha256= and 8 to 64 hexadecimal digits, got {url}.'
        )
    in_name = HASH_IN_NAME.search(PurePosixPath(urlparse(address).path).name)
    return in_name[1] if in_name else ''


def _blocks(response) -> Iterator[bytes]:
    """Reads a response block by block; errors of the network become ValueErrors."""
    try:
        while block := response.read(1 << 20):
            yield block
    except (OSError, HTTPException) as error:
        raise ValueError(str(error)) from error


def _save(response, file: Path, length: str | None, expected: str) -> None:
    size, digest = int(length or 0), hashlib.sha256()
    with atomic_write(file, size) as target:
        for block in _blocks(response):
            target.write(block)
            digest.update(block)
        if length is not None and target.tell() != size:
            raise ValueError(f'got {target.tell()} of {size} bytes')
        if not digest.hexdigest().startswith(expected):
            raise ValueError(f'its SHA-256 is {digest.hexdigest()}, expected {expected}...')


def _download(url: str, file: Path) -> None:
    """Downloads a file; it gets its name once its length and hash have been checked.

    Raises:
        UserError: If the download fails, is incomplete, or does not have the expected hash.
    """
    address, expected = urldefrag(url)[0], _expected_hash(url)
    try:
        with urllib.request.urlopen(address, timeout=60) as response:
            length = response.headers.get('Content-Length')
            print_log(f'Downloading {url} ({length or "unknown"} bytes) to {file}.', 'current')
            redirected = response.geturl()
            if not (expected or address.startswith('https:') and redirected.startswith('https:')):
                print_log(
                    f'{url} is not encrypted: anyone between here and the server can replace the '
                    'file. Use https://, or add #sha256=... to the address.',
                    'current',
                    logging.WARNING,
                )
            _save(response, file, length, expected)
    except (OSError, HTTPException, ValueError) as error:
        raise UserError(
            f'Cannot download {url}: {str(error).removesuffix(".")}. Try again, or download it '
            f'elsewhere and put it at {file}.'
        ) from error


def _is_kept(file: Path, expected: str) -> bool:
    """Whether a file has been downloaded, with the expected hash."""
    if not file.is_file():
        return False
    return not expected or hash_file(file).startswith(expected)


def _fetch_url(url: str) -> Path:
    file, expected = cached_file(url), _expected_hash(url)
    try:
        if not _is_kept(file, expected):
            file.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f'{file}.lock'):
                if not _is_kept(file, expected):  # nor has another process downloaded it meanwhile
                    _download(url, file)
    except OSError as error:
        raise UserError(f'Cannot keep {url} at {file}: {error}.') from error
    return file


def fetch(path: str) -> Path:
    """Returns the local file behind a path, after downloading it if it is not local.

    Of all processes that share a cache folder, one downloads and the others wait for it, with or
    without a process group.

    Args:
        path: A local path; ``http(s)://...``, kept at :func:`cached_file` and, with
            ``#sha256=...`` at its end, compared with this hash or its beginning each time; or
            ``hf://OWNER/NAME[@REVISION]`` for ``model.safetensors`` on the hub, of a branch, tag or
            commit.

    Raises:
        UserError: If the download fails.
    """
    if path.startswith('hf://'):
        from huggingface_hub import hf_hub_download

        name, _, revision = path.removeprefix('hf://').partition('@')
        try:
            return Path(hf_hub_download(name, 'model.safetensors', revision=revision or None))
        except (OSError, ValueError) as error:  # no network, no such repository or file, bad name
            reason = str(error).splitlines()[0]
            raise UserError(
                f'Cannot download {path}: {reason} Expected hf://OWNER/NAME[@REVISION] of a '
                'repository with model.safetensors. Try again, or download it elsewhere and give '
                'the file.'
            ) from error
    if is_url(path):
        return _fetch_url(path)
    return Path(path).expanduser()
