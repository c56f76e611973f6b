"""Reading checkpoints without executing code in them.

:func:`install`, which ``import mmwf`` calls, makes MMEngine read local files, URLs and ``hf://``
names with :func:`read_checkpoint`. So ``load_from``, ``resume`` and
``init_cfg=dict(type='Pretrained')`` are safe and accept released weights.
"""

import hashlib
import io
import pickle
import types
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from mmengine.logging import HistoryBuffer, print_log
from torch import Tensor

from mmwf.errors import UserError

from .download import fetch, is_url
from .released_keys import is_released, released_to_mmwf
from .writing import digest_path

_TENSOR_GLOBALS = {
    ('collections', 'OrderedDict'),
    ('torch', 'Size'),
    ('torch', 'device'),
    ('torch._utils', '_rebuild_parameter'),
    ('torch._utils', '_rebuild_tensor'),
    ('torch._utils', '_rebuild_tensor_v2'),
}


def _history_buffer_attribute(obj, name):
    """Replaces ``getattr`` in MMEngine's checkpoints, which pickle methods of HistoryBuffer."""
    if obj is not HistoryBuffer or name.startswith('_'):
        raise pickle.UnpicklingError(f'getattr({obj!r}, {name!r}) is not allowed.')
    return getattr(HistoryBuffer, name)


def _mmengine_globals() -> list:
    """Classes in MMEngine's training checkpoints besides tensors and plain containers."""
    dtypes = [type(np.dtype(t)) for t in (np.int64, np.float32, np.float64, np.uint32, np.bool_)]
    rebuild = [value.__reduce__()[0] for value in (np.empty(0), np.float64())]
    # Where they are in files that were written with NumPy 1, and with NumPy 2.
    modules = ('numpy.core.multiarray', 'numpy._core.multiarray')
    return [
        HistoryBuffer,
        (_history_buffer_attribute, 'builtins.getattr'),
        slice,
        np.ndarray,
        np.dtype,
        *((f, f'{module}.{f.__name__}') for f in rebuild for module in modules),
        *dtypes,
    ]


class _Inert(dict):
    """Placeholder for a foreign pickled object; ignores its arguments, state and items."""

    def __init__(self, *args, **kwargs):
        super().__init__()

    def __setstate__(self, state):
        pass

    def append(self, item):
        pass

    def extend(self, items):
        pass


class InertUnpickler(pickle.Unpickler):
    """Reads plain containers, numbers and texts; leaves out tensors and everything else."""

    def find_class(self, module, name):
        return _Inert

    def persistent_load(self, pid):
        return None


class _TensorUnpickler(pickle.Unpickler):
    """Rebuilds tensors; replaces all other classes and functions by :class:`_Inert`."""

    foreign: set[str] = set()

    def find_class(self, module, name):
        if (module, name) in _TENSOR_GLOBALS or (module == 'torch' and name.endswith('Storage')):
            return super().find_class(module, name)
        self.foreign.add(f'{module}.{name}')
        return _Inert


def _damaged(path: str | Path, data: bytes, error: Exception | str) -> str:
    return f'{path} ({len(data)} bytes) is damaged or not a checkpoint: {error}'


def _read_tensors_only(data: bytes, path: str, map_location) -> dict:
    """Reads only the weights of a ``.pth`` that also contains foreign objects."""
    foreign = set()
    unpickler = type('Unpickler', (_TensorUnpickler,), {'foreign': foreign})
    pickle_module = types.SimpleNamespace(
        __name__=__name__,  # torch.load reads it
        Unpickler=unpickler,
        load=lambda f, **kwargs: unpickler(f, **kwargs).load(),
    )
    remedy = (
        'If you trust it, load it where it was created and save only its weights, e.g. with '
        "safetensors.torch.save_file(checkpoint['model'], 'model.safetensors')."
    )
    try:
        checkpoint = torch.load(
            io.BytesIO(data), map_location, pickle_module=pickle_module, weights_only=False
        )
        state_dict = _find_state_dict(checkpoint)
    except Exception as error:
        if not foreign:
            raise UserError(_damaged(path, data, error)) from error
        raise UserError(
            f'{path} was not unpickled: it contains objects other than weights '
            f'({", ".join(sorted(foreign))}). {remedy}'
        ) from error
    names = ', '.join(sorted(foreign))
    if not state_dict or not all(isinstance(value, Tensor) for value in state_dict.values()):
        raise UserError(
            f'{path} was not unpickled: it contains objects ({names}) in place of weights. {remedy}'
        )
    print_log(
        f'{path}: read only the {len(state_dict)} weights; objects of {names} were not unpickled.',
        logger='current',
    )
    return dict(state_dict=state_dict)


def _find_state_dict(checkpoint) -> Mapping:
    """Returns the weights in a checkpoint: the value of one of these keys, or the whole dict."""
    for key in ('ema', 'state_dict', 'model'):  # DiT's training code saves both ema and model
        if isinstance(checkpoint, Mapping) and isinstance(checkpoint.get(key), Mapping):
            return checkpoint[key]
    return checkpoint


def _check_digest(path: Path, data: bytes) -> None:
    """Compares a file with the digest beside it, if there is one.

    Raises:
        UserError: If they differ.
    """
    try:
        words = digest_path(path).read_text(errors='replace').split()
    except OSError:
        return
    if words and (found := hashlib.sha256(data).hexdigest()) != words[0]:
        raise UserError(
            f'{path} ({len(data)} bytes) is damaged: its SHA-256 is {found[:16]}..., expected '
            f'{words[0][:16]}... (in {digest_path(path)}). If you replaced it on purpose, remove '
            'that file.'
        )


def _check_archive(path: Path, data: bytes) -> None:
    """Compares the members of an archive with their checksums, which torch does not check.

    Raises:
        UserError: If the file is damaged or a TorchScript program. Files in the format before
            torch 1.6 have no checksums and pass.
    """
    if not data.startswith(b'PK\x03\x04'):  # how torch decides
        return
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            damaged, names = archive.testzip(), archive.namelist()
    except Exception as error:  # of any type: zipfile interprets damaged headers
        raise UserError(_damaged(path, data, error)) from error
    if damaged:
        raise UserError(_damaged(path, data, f'the checksum of its member {damaged} is wrong'))
    if any(name.endswith('/constants.pkl') for name in names):
        raise UserError(f'{path} is a TorchScript program; expected a checkpoint with weights.')


def check_intact(path: Path) -> bytes:
    """Checks a file against the digest beside it, if there is one, and the checksums in it.

    Returns:
        Its content.

    Raises:
        UserError: If it is damaged.
    """
    data = path.read_bytes()
    _check_digest(path, data)
    if path.suffix != '.safetensors':
        _check_archive(path, data)
    return data


def _read_file(path: Path, map_location) -> dict:
    data = check_intact(path)
    if path.suffix == '.safetensors':
        from safetensors.torch import load

        try:
            return dict(state_dict=load(data))
        except Exception as error:
            raise UserError(f'{path} is not a readable safetensors file: {error}') from error
    try:
        with torch.serialization.safe_globals(_mmengine_globals()):
            checkpoint = torch.load(io.BytesIO(data), map_location, weights_only=True)
    except pickle.UnpicklingError:
        checkpoint = _read_tensors_only(data, str(path), map_location)
    except Exception as error:  # of any type: torch interprets damaged bytes as pickle opcodes
        raise UserError(_damaged(path, data, error)) from error
    if not isinstance(checkpoint, dict):
        raise UserError(
            f'Expected {path} to contain a dict of weights, got a {type(checkpoint).__name__}.'
        )
    return checkpoint


def _drop_config(checkpoint: dict) -> None:
    """Removes the text of the config from a training checkpoint.

    It is Python, and MMEngine executes it: on resume, to compare GPU counts, and in inferencers
    that get no config.
    """
    hub = checkpoint.get('message_hub')
    info = hub.get('runtime_info') if isinstance(hub, dict) else None
    for holder in (checkpoint['meta'], info):
        if isinstance(holder, dict):
            for key in ('cfg', 'config'):
                holder.pop(key, None)


def read_checkpoint(path: str | Path, map_location='cpu') -> dict:
    """Reads a checkpoint without executing code in it.

    Args:
        path: A training checkpoint or released weights: a ``.pth`` or ``.safetensors`` file, the
            URL of one, or ``hf://OWNER/NAME`` for ``model.safetensors`` on the Hugging Face hub.
        map_location: Device of the tensors; ignored for ``.safetensors``.

    Returns:
        The checkpoint, with the weights under ``state_dict``. The keys of released weights are
        renamed to ours (see :func:`mmwf.checkpoints.released_keys.released_to_mmwf`).

    Raises:
        FileNotFoundError: If there is no such file.
        UserError: If the file is damaged, or its weights cannot be read without unpickling foreign
            objects. Damage is found by the checksums in a ``.pth`` and by the SHA-256 digest in
            ``FILE.sha256``, if it exists.
    """
    path = str(path)
    file = fetch(path)
    if not file.is_file():
        raise FileNotFoundError(f'There is no checkpoint {path} (looked at {file.absolute()}).')
    try:
        checkpoint = _read_file(file, map_location)
    except UserError as error:
        if not is_url(path):
            raise
        file.unlink(missing_ok=True)
        raise UserError(f'{path}: {error} The downloaded file has been deleted.') from error
    if isinstance(checkpoint.get('state_dict'), Mapping) and 'meta' in checkpoint:
        _drop_config(checkpoint)
        return checkpoint  # saved by MMEngine
    state_dict = {
        key.removeprefix('module.'): value for key, value in _find_state_dict(checkpoint).items()
    }
    if is_released(state_dict):
        state_dict = released_to_mmwf(state_dict)
        print_log(f'{path}: renamed {len(state_dict)} released keys.', logger='current')
    return dict(checkpoint, state_dict=OrderedDict(state_dict))


def check_checkpoint(path: str) -> None:
    """Checks that a local checkpoint file exists.

    Args:
        path: As in :func:`read_checkpoint`; URLs and ``hf://`` names are not checked.

    Raises:
        UserError: If it does not exist.
    """
    if '://' not in path and not Path(path).expanduser().is_file():
        raise UserError(f'There is no checkpoint {path} (looked at {Path(path).absolute()}).')


def load_from_local(filename, map_location=None):
    """:func:`read_checkpoint` with the signature of MMEngine's loaders.

    MMEngine logs a loader's name without its first ten letters, here ``local``.

    Always reads to the CPU, from where the weights are copied to the model. On resume, MMEngine
    asks for the GPU, which would hold model and optimizer twice.
    """
    return read_checkpoint(filename, 'cpu')


def install() -> None:
    """Makes MMEngine's CheckpointLoader use :func:`read_checkpoint` for files, URLs and the hub."""
    from mmengine.runner.checkpoint import CheckpointLoader

    schemes = ('', 'hf://', 'http://', 'https://')
    CheckpointLoader.register_scheme(schemes, load_from_local, force=True)
