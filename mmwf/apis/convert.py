"""Conversion between released weights and this project's checkpoints."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from mmwf.checkpoint import match_keys, mmwf_to_released, read_checkpoint
from mmwf.models import WeightFormer
from mmwf.version import __version__

from .environment import UserError


def backbone_of(state_dict: Mapping[str, Tensor]) -> WeightFormer:
    """Builds, without memory for its weights, the backbone whose weights are in a classifier's.

    Args:
        state_dict: Weights under our names, with ``backbone.*``.

    Raises:
        KeyError: If the patch embedding or the first MLP is missing.
    """
    blocks = {int(m[1]) for k in state_dict if (m := re.match(r'backbone\.blocks\.(\d+)\.', k))}
    dynamic = {i for i in blocks if f'backbone.blocks.{i}.norm1.weight' in state_dict}
    patches = state_dict['backbone.patch_embed.proj.weight']
    width, in_channels, patch_size, _ = patches.shape
    hidden = len(state_dict['backbone.blocks.0.mlp.fc1.bias'])
    with torch.device('meta'):
        return WeightFormer(
            arch=dict(embed_dims=width, depth=max(blocks) + 1, mlp_ratio=hidden / width),
            in_channels=in_channels,
            patch_size=patch_size,
            dynamic_blocks=dynamic,
        )


def convert_released(src: str, dst: str, reverse: bool = False) -> str:
    """Converts a released checkpoint to one of mmpretrain's ImageClassifier, or back.

    Args:
        src: As in :func:`mmwf.checkpoint.read_checkpoint`.
        dst: The file to write: a ``.pth``, or with ``reverse`` also a ``.safetensors``.
        reverse: Whether to go from ours to released.

    Returns:
        A sentence that says what was done and how many keys matched.

    Raises:
        UserError: If the file is no WeightFormer classifier, or incomplete.
    """
    suffix = Path(dst).suffix
    if suffix != '.pth' and not (reverse and suffix == '.safetensors'):
        raise UserError(
            f'Expected DST to end in .pth{" or .safetensors" if reverse else ""}, got {dst}.'
        )
    try:
        state_dict = read_checkpoint(src)['state_dict']
        backbone = backbone_of(state_dict)
    except FileNotFoundError as error:
        raise UserError(str(error)) from error
    except (KeyError, ValueError) as error:
        raise UserError(f'{src} is no WeightFormer classifier: {error}') from error
    expected = {f'backbone.{k}': v for k, v in backbone.state_dict().items()}
    if 'head.fc.weight' in state_dict:
        classes = len(state_dict['head.fc.weight'])
        expected['head.fc.weight'] = torch.empty(classes, backbone.embed_dims, device='meta')
        expected['head.fc.bias'] = torch.empty(classes, device='meta')
    match = match_keys(expected, state_dict)
    if match.num_matched < match.num_expected or match.unexpected:
        raise UserError(f'{src} is no complete WeightFormer classifier: {match}.')
    if reverse:
        content = {'model': mmwf_to_released(state_dict)}
    else:
        meta = dict(mmwf_version=__version__, converted_from=Path(src).name)
        content = dict(meta=meta, state_dict=dict(state_dict))
    partial = Path(f'{dst}.part')
    partial.parent.mkdir(parents=True, exist_ok=True)
    if suffix == '.safetensors':
        save_file({k: v.contiguous() for k, v in content['model'].items()}, partial)
    else:
        torch.save(content, partial)
    os.replace(partial, dst)
    return f'{src} -> {dst}: {match}.'
