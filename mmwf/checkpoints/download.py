"""Downloading checkpoints from URLs and from the Hugging Face hub."""

import hashlib
import os
import re
import shutil
import urllib.request
from pathlib import Path, PurePosixPath
from urllib.parse import urlparse

import torch
from filelock import FileLock
from mmengine.logging import print_log

from mmwf.errors import UserError

HASH_IN_NAME = re.compile(r'-([0-9a-f]{8,64})\.[^.]+$')  # the convention of torch.hub


def _download(url: str, file: Path) -> None:
    """Downloads to a temporary name, checks length and hash, then renames.

    Raises:
        UserError: If the download fails, is incomplete, or does not have the hash in its name.
    """
    partial = file.with_name(f'{file.name}.{os.getpid()}.part')
    digest = hashlib.sha256()
    try:
        with urllib.request.urlopen(url, timeout=60) as response, partial.open('wb') as target:
            length = response.headers.get('Content-Length')
            print_log(f'Downloading {url} ({length or "unknown"} bytes) to {file}.', 'current')
            shutil.copyfileobj(response, target)
        if length is not None and partial.stat().st_size != int(length):
            raise OSError(f'got {partial.stat().st_size} of {length} bytes')
        if expected := HASH_IN_NAME.search(file.name):
            with partial.open('rb') as content:
                while block := content.read(1 << 20):
                    digest.update(block)
            if not digest.hexdigest().startswith(expected[1]):
                raise OSError(f'its SHA-256 is {digest.hexdigest()}, expected {expected[1]}...')
        os.replace(partial, file)
    except (OSError, ValueError) as error:
        raise UserError(
            f'Cannot download {url}: {error}. Try again, or download it elsewhere and put it at '
            f'{file}.'
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def fetch(path: str) -> Path:
    """Returns the local file behind a path, after downloading it if it is not local.

    Of all processes that share a cache folder, one downloads and the others wait for it, with or
    without a process group.

    Args:
        path: A local path; ``http(s)://...``, kept in ``torch.hub``'s folder of checkpoints; or
            ``hf://OWNER/NAME`` for ``model.safetensors`` on the hub.

    Raises:
        UserError: If the download fails.
    """
    if path.startswith('hf://'):
        from huggingface_hub import hf_hub_download

        try:
            return Path(hf_hub_download(path.removeprefix('hf://'), 'model.safetensors'))
        except (OSError, ValueError) as error:  # no network, no such repository or file, bad name
            reason = str(error).splitlines()[0]
            raise UserError(
                f'Cannot download {path}: {reason} Expected hf://OWNER/NAME of a repository with '
                'model.safetensors. Try again, or download it elsewhere and give the file.'
            ) from error
    if not path.startswith(('http://', 'https://')):
        return Path(path).expanduser()
    file = Path(torch.hub.get_dir()) / 'checkpoints' / PurePosixPath(urlparse(path).path).name
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f'{file}.lock'):
            if not file.exists():  # another process may have downloaded it meanwhile
                _download(path, file)
    return file
