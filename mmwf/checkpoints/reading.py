"""Reading checkpoints without executing code in them (how: :mod:`mmwf.checkpoints.unpickling`).

:func:`install`, which ``import mmwf`` calls, makes MMEngine read local files, URLs and ``hf://``
names with :func:`read_checkpoint`. So ``load_from``, ``resume`` and
``init_cfg=dict(type='Pretrained')`` are safe and accept released weights.
"""

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import torch
from mmengine.logging import print_log
from torch import Tensor

from mmwf.errors import UserError, did_you_mean

from .download import fetch, is_url
from .integrity import check_digest, describe_damage
from .released_keys import is_released, released_to_mmwf
from .torch_files import read_torch_file


def _read_pickled(path: Path, map_location):
    """Reads a file of ``torch.save``; if it contains foreign objects, only its weights."""
    foreign: set[str] = set()
    remedy = (
        'If you trust it, load it where it was created and save only its weights, e.g. with '
        "safetensors.torch.save_file(checkpoint['model'], 'model.safetensors')."
    )
    try:
        checkpoint = read_torch_file(path, map_location, foreign)
    except UserError:
        raise
    except Exception as error:  # of any type: damaged bytes are read as pickle's instructions
        if not foreign:
            raise UserError(describe_damage(path, error)) from error
        raise UserError(
            f'{path} was not unpickled: it contains objects other than weights '
            f'({", ".join(sorted(foreign))}). {remedy}'
        ) from error
    if not foreign:
        return checkpoint
    names, state_dict = ', '.join(sorted(foreign)), _find_state_dict(checkpoint)
    if not _is_state_dict(state_dict):
        raise UserError(
            f'{path} was not unpickled: it contains objects ({names}) in place of weights. {remedy}'
        )
    print_log(
        f'{path}: read only the {len(state_dict)} weights; objects of {names} were not unpickled.',
        logger='current',
    )
    return dict(state_dict=state_dict)


def _is_state_dict(value) -> bool:
    if not isinstance(value, Mapping) or not value:
        return False
    return all(isinstance(k, str) and isinstance(v, Tensor) for k, v in value.items())


def _find_state_dict(checkpoint) -> Mapping:
    """Returns the weights in a checkpoint: the value of one of these keys, or the whole dict."""
    for key in ('ema', 'state_dict', 'model'):  # DiT's training code saves both ema and model
        if isinstance(checkpoint, Mapping) and isinstance(checkpoint.get(key), Mapping):
            return checkpoint[key]
    return checkpoint


def _read_file(path: Path, map_location) -> dict:
    check_digest(path)
    if path.suffix == '.safetensors':
        from safetensors.torch import load_file

        try:
            return dict(state_dict=load_file(path))
        except Exception as error:
            raise UserError(f'{path} is not a readable safetensors file: {error}') from error
    checkpoint = _read_pickled(path, map_location)
    if not isinstance(checkpoint, dict):
        raise UserError(
            f'Expected {path} to contain a dict of weights, got a {type(checkpoint).__name__}.'
        )
    return checkpoint


def _drop_config(checkpoint: dict) -> None:
    """Removes the text of the config from a training checkpoint.

    It is Python, and MMEngine executes it: on resume, to compare GPU counts, and in inferencers
    that get no config. It is removed at any depth of the two entries that MMEngine looks at.
    """
    for name in ('meta', 'message_hub'):
        if name in checkpoint and not isinstance(checkpoint[name], dict):
            del checkpoint[name]
    pending, seen = [checkpoint.get('meta'), checkpoint.get('message_hub')], set()
    while pending:  # not recursive: a file can be nested deeply, or contain itself
        value = pending.pop()
        if id(value) in seen or not isinstance(value, (dict, list, tuple)):
            continue
        seen.add(id(value))
        if isinstance(value, dict):
            for key in ('cfg', 'config'):
                value.pop(key, None)
            value = value.values()
        pending.extend(value)


def read_checkpoint(path: str | Path, map_location='cpu') -> dict:
    """Reads a checkpoint without executing code in it.

    Args:
        path: A training checkpoint or released weights: a ``.pth`` or ``.safetensors`` file, the
            URL of one, or ``hf://OWNER/NAME[@REVISION]`` for ``model.safetensors`` on the Hugging
            Face hub.
        map_location: Device of the tensors, by default the CPU; ignored for ``.safetensors``.

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
    _drop_config(checkpoint)
    if 'meta' in checkpoint and _is_state_dict(checkpoint.get('state_dict')):
        return checkpoint  # saved by MMEngine
    state_dict = _find_state_dict(checkpoint)
    if not all(isinstance(key, str) for key in state_dict):
        raise UserError(f'Expected {path} to contain weights by name, got keys of other types.')
    state_dict = {key.removeprefix('module.'): value for key, value in state_dict.items()}
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
    file = Path(path).expanduser()
    if '://' not in path and not file.is_file():
        others = (p.name for p in file.parent.glob('*') if p.suffix in ('.pth', '.safetensors'))
        raise UserError(
            f'There is no checkpoint {path} (looked at {file.absolute()}).'
            + did_you_mean(file.name, others)
        )


def load_from_local(filename, map_location=None):
    """:func:`read_checkpoint` with the signature of MMEngine's loaders.

    MMEngine logs a loader's name without its first ten letters, here ``local``.

    Always reads to the CPU, from where the weights are copied to the model. On resume, MMEngine
    asks for the GPU, which would hold model and optimizer twice.
    """
    return read_checkpoint(filename, 'cpu')


def _load_without_fallback(file, map_location=None, weights_only=None):
    """Replaces MMEngine's ``_safe_torch_load``, which unpickles what is not safe after all."""
    if isinstance(file, (str, Path)):
        return read_checkpoint(file, map_location)
    return torch.load(file, map_location, weights_only=True)


def _load_from_http(filename, map_location=None, model_dir=None, progress=False):
    """Replaces MMEngine's function, which the schemes of model zoos such as mmcls:// call."""
    return read_checkpoint(filename, map_location)


def install() -> None:
    """Makes MMEngine's CheckpointLoader read safely.

    It uses :func:`read_checkpoint` for files, URLs, the hub and the model zoos of OpenMMLab and
    torchvision; for other sources, such as S3, ``torch.load(weights_only=True)``.
    """
    from mmengine.runner import checkpoint

    schemes = ('', 'hf://', 'http://', 'https://')
    checkpoint.CheckpointLoader.register_scheme(schemes, load_from_local, force=True)
    checkpoint.load_from_http = _load_from_http
    checkpoint._safe_torch_load = _load_without_fallback
