"""Checkpoints: safe reading, and matching them against a model.

Importing this module makes MMEngine read local files, web addresses and ``hf://`` names through
:func:`read_checkpoint`, so ``load_from``, ``resume`` and ``init_cfg=dict(type='Pretrained')`` are
all safe and all understand the released weights.
"""

import hashlib
import io
import pickle
import types
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from urllib.parse import urlparse

import numpy as np
import torch
from mmengine.dist import barrier, get_local_rank
from mmengine.logging import HistoryBuffer, print_log
from mmengine.runner import CheckpointLoader
from torch import Tensor, nn

from mmwf.errors import UserError
from mmwf.released_keys import is_released, released_to_mmwf

# Reading ------------------------------------------------------------------------------------------

_TENSOR_GLOBALS = {
    ('collections', 'OrderedDict'),
    ('torch', 'Size'),
    ('torch', 'device'),
    ('torch._utils', '_rebuild_parameter'),
    ('torch._utils', '_rebuild_tensor'),
    ('torch._utils', '_rebuild_tensor_v2'),
}


def _history_buffer_attribute(obj, name):
    """Stands in for ``getattr`` in MMEngine's checkpoints, which pickle HistoryBuffer's methods."""
    if obj is not HistoryBuffer or name.startswith('_'):
        raise pickle.UnpicklingError(f'getattr({obj!r}, {name!r}) is not allowed.')
    return getattr(HistoryBuffer, name)


def _mmengine_globals() -> list:
    """What a training checkpoint of MMEngine holds besides tensors and plain containers."""
    multiarray = np._core.multiarray
    dtypes = [type(np.dtype(t)) for t in (np.int64, np.float32, np.float64, np.uint32, np.bool_)]
    return [
        HistoryBuffer,
        (_history_buffer_attribute, 'builtins.getattr'),
        slice,
        np.ndarray,
        np.dtype,
        multiarray._reconstruct,
        multiarray.scalar,
        *dtypes,
    ]


class _Inert(dict):
    """Takes the place of a foreign pickled object: holds what it is given and runs nothing."""

    def __init__(self, *args, **kwargs):
        super().__init__()

    def __setstate__(self, state):
        pass

    def append(self, item):
        pass

    def extend(self, items):
        pass


class _TensorUnpickler(pickle.Unpickler):
    """Rebuilds tensors; every other class or function becomes :class:`_Inert`, never imported."""

    foreign: set[str] = set()

    def find_class(self, module, name):
        if (module, name) in _TENSOR_GLOBALS or (module == 'torch' and name.endswith('Storage')):
            return super().find_class(module, name)
        self.foreign.add(f'{module}.{name}')
        return _Inert


def _damaged(path: str | Path, data: bytes, error: Exception) -> str:
    return f'{path} ({len(data)} bytes) is damaged or no checkpoint at all: {error}'


def _read_tensors_only(data: bytes, path: str, map_location) -> dict:
    """Reads the weights of a ``.pth`` that holds foreign objects beside them."""
    foreign = set()
    unpickler = type('Unpickler', (_TensorUnpickler,), {'foreign': foreign})
    pickle_module = types.SimpleNamespace(
        __name__=__name__,  # torch.load looks at it
        Unpickler=unpickler,
        load=lambda f, **kwargs: unpickler(f, **kwargs).load(),
    )
    way_out = (
        'If you trust it, open it where it was made and save its weights alone, for example with '
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
            f'{path} holds pickled objects other than weights ({", ".join(sorted(foreign))}) and '
            f'was not unpickled. {way_out}'
        ) from error
    names = ', '.join(sorted(foreign))
    if not state_dict or not all(isinstance(value, Tensor) for value in state_dict.values()):
        raise UserError(
            f'{path} holds pickled objects ({names}) where weights are expected, '
            f'and they were not unpickled. {way_out}'
        )
    print_log(
        f'{path}: read the {len(state_dict)} weights only; objects of {names} were not unpickled.',
        logger='current',
    )
    return dict(state_dict=state_dict)


def _find_state_dict(checkpoint) -> Mapping:
    """Returns the weights inside a checkpoint: under one of these names, or at the top."""
    for key in ('ema', 'state_dict', 'model'):  # DiT's training code writes both ema and model
        if isinstance(checkpoint, Mapping) and isinstance(checkpoint.get(key), Mapping):
            return checkpoint[key]
    return checkpoint


def _read_file(path: Path, map_location) -> dict:
    if path.suffix == '.safetensors':
        from safetensors.torch import load_file

        try:
            return dict(state_dict=load_file(path))
        except Exception as error:
            raise UserError(f'{path} is no readable safetensors file: {error}') from error
    data = path.read_bytes()
    if zipfile.is_zipfile(io.BytesIO(data)):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if any(name.endswith('/constants.pkl') for name in archive.namelist()):
                raise UserError(
                    f'{path} is a TorchScript program; expected a checkpoint with weights.'
                )
    try:
        with torch.serialization.safe_globals(_mmengine_globals()):
            checkpoint = torch.load(io.BytesIO(data), map_location, weights_only=True)
    except pickle.UnpicklingError:
        checkpoint = _read_tensors_only(data, str(path), map_location)
    except Exception as error:  # of many kinds: torch reads what it is given as a program
        raise UserError(_damaged(path, data, error)) from error
    if not isinstance(checkpoint, dict):
        raise UserError(f'{path} holds a {type(checkpoint).__name__}, expected a dict of weights.')
    return checkpoint


def _fetch(path: str) -> str:
    """Returns the local file behind a path, after downloading it if it is not local."""
    if path.startswith('hf://'):
        from huggingface_hub import hf_hub_download

        return hf_hub_download(path.removeprefix('hf://'), 'model.safetensors')
    if not path.startswith(('http://', 'https://')):
        return path
    file = Path(torch.hub.get_dir()) / 'checkpoints' / PurePosixPath(urlparse(path).path).name
    if get_local_rank() == 0 and not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(path, str(file))
    barrier()
    return str(file)


def read_checkpoint(path: str | Path, map_location='cpu') -> dict:
    """Reads a checkpoint without running anything that is in it.

    Args:
        path: A ``.safetensors`` file or a ``.pth`` that torch wrote, such as a training checkpoint
            or a released file; the web address of one; or ``hf://OWNER/NAME`` for
            ``model.safetensors`` on the hub.
        map_location: Where to put the tensors.

    Returns:
        The checkpoint, with the weights under ``state_dict``. Released weights come out under our
        names (see :func:`mmwf.released_keys.released_to_mmwf`).

    Raises:
        FileNotFoundError: If there is no such file.
        UserError: If the file is damaged, or if its weights cannot be had without unpickling
            foreign objects.
    """
    path = str(path)
    file = Path(_fetch(path)).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f'There is no checkpoint {path} (looked at {file.absolute()}).')
    checkpoint = _read_file(file, map_location)
    if isinstance(checkpoint.get('state_dict'), Mapping) and 'meta' in checkpoint:
        return checkpoint  # one of MMEngine's own
    state_dict = {
        key.removeprefix('module.'): value for key, value in _find_state_dict(checkpoint).items()
    }
    if is_released(state_dict):
        state_dict = released_to_mmwf(state_dict)
        print_log(f'{path}: mapped {len(state_dict)} released keys.', logger='current')
    return dict(checkpoint, state_dict=OrderedDict(state_dict))


def load_from_local(filename, map_location=None):
    """:func:`read_checkpoint` in the form of MMEngine's loaders."""
    return read_checkpoint(filename, map_location)


load_from_web = load_from_local
CheckpointLoader.register_scheme('', load_from_local, force=True)
CheckpointLoader.register_scheme(('hf://', 'http://', 'https://'), load_from_web, force=True)

# Matching -----------------------------------------------------------------------------------------


@dataclass
class KeyMatch:
    """How the weights of a checkpoint fit a model."""

    num_expected: int
    num_matched: int
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mismatched: list[str] = field(default_factory=list)

    @property
    def is_exact(self) -> bool:
        """Whether the checkpoint has every weight of the model, and nothing else."""
        return not (self.missing or self.unexpected or self.mismatched)

    def __str__(self):
        parts = [f'{self.num_matched} of {self.num_expected} keys matched']
        for name in ('missing', 'unexpected', 'mismatched'):
            keys = getattr(self, name)
            if keys:
                more = f' and {len(keys) - 3} more' if len(keys) > 3 else ''
                parts.append(f'{name}: {", ".join(keys[:3])}{more}')
        return '; '.join(parts)


def match_keys(expected: Mapping[str, Tensor], state_dict: Mapping[str, Tensor]) -> KeyMatch:
    """Compares names and shapes of the weights in a checkpoint with those a model expects."""
    mismatched = [
        f'{key} {tuple(state_dict[key].shape)} (expected {tuple(value.shape)})'
        for key, value in expected.items()
        if key in state_dict and state_dict[key].shape != value.shape
    ]
    missing = [key for key in expected if key not in state_dict]
    return KeyMatch(
        num_expected=len(expected),
        num_matched=len(expected) - len(missing) - len(mismatched),
        missing=missing,
        unexpected=[key for key in state_dict if key not in expected],
        mismatched=mismatched,
    )


def load_pretrained_backbone(backbone: nn.Module, path: str, prefix: str | None = None) -> None:
    """Loads a backbone from a checkpoint of itself or of a whole model, and prints the match.

    Args:
        backbone: The model to fill.
        path: As in :func:`read_checkpoint`.
        prefix: What stands before the backbone's names in the file. Default: ``'backbone.'`` if
            there are such keys, else nothing.

    Raises:
        UserError: If a weight of the backbone is missing or has another shape. A last norm that
            the backbone does not have (``final_norm=False``) may be left over.
    """
    state_dict = read_checkpoint(path)['state_dict']
    if prefix is None:
        prefix = 'backbone.' if any(k.startswith('backbone.') for k in state_dict) else ''
    elif prefix and not prefix.endswith('.'):
        prefix += '.'
    state_dict = {
        key.removeprefix(prefix): value
        for key, value in state_dict.items()
        if key.startswith(prefix)
    }
    match = match_keys(backbone.state_dict(), state_dict)
    left_over = [key for key in match.unexpected if not key.startswith(('norm.', 'head.'))]
    if match.missing or match.mismatched or left_over:
        raise UserError(
            f'{path} does not fit this {type(backbone).__name__}: {match}. Expected a checkpoint '
            'of the same arch, dynamic blocks and predictors.'
        )
    backbone.load_state_dict(
        {key: value for key, value in state_dict.items() if key not in match.unexpected}
    )
    print_log(f'{path}: {match}.', logger='current')


def hash_weights(state_dict: Mapping[str, Tensor]) -> str:
    """Returns 16 hexadecimal digits that identify weights, whatever file they are kept in."""
    digest = hashlib.sha256()
    for key in sorted(state_dict):
        value = state_dict[key].detach().cpu().contiguous()
        digest.update(f'{key} {value.dtype} {tuple(value.shape)}'.encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]
