"""Conversion between released weights and this project's checkpoints."""

import contextlib
import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from mmwf.checkpoint import match_keys, read_checkpoint
from mmwf.models import Denoiser, WeightFormer
from mmwf.released_keys import mmwf_to_released
from mmwf.version import __version__

from .environment import UserError, check_checkpoint


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


def denoiser_of(state_dict: Mapping[str, Tensor]) -> Denoiser:
    """Builds, without memory for its weights, the denoiser that some weights are of.

    Args:
        state_dict: Weights under our names, with ``denoiser.*``.

    Raises:
        KeyError: If the patch embedding, the position table or the first MLP is missing.
    """
    width, in_channels, patch_size, _ = state_dict['denoiser.patch_embed.proj.weight'].shape
    side = math.isqrt(state_dict['denoiser.pos_embed'].shape[1])
    hidden = len(state_dict['denoiser.blocks.0.mlp.fc1.bias'])
    blocks = {m[1] for k in state_dict if (m := re.match(r'denoiser\.blocks\.(\d+)\.', k))}
    with torch.device('meta'):
        return Denoiser(
            arch=dict(embed_dims=width, depth=len(blocks), mlp_ratio=hidden / width),
            input_size=side * patch_size,
            patch_size=patch_size,
            in_channels=in_channels,
            num_classes=len(state_dict['denoiser.label_embed.weight']) - 1,
        )


def _expected_weights(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the weights, without their content, of the whole model that some weights are of."""
    if 'denoiser.patch_embed.proj.weight' in state_dict:
        return {f'denoiser.{k}': v for k, v in denoiser_of(state_dict).state_dict().items()}
    backbone = backbone_of(state_dict)
    expected = {f'backbone.{k}': v for k, v in backbone.state_dict().items()}
    if 'head.fc.weight' in state_dict:
        classes = len(state_dict['head.fc.weight'])
        expected['head.fc.weight'] = torch.empty(classes, backbone.embed_dims, device='meta')
        expected['head.fc.bias'] = torch.empty(classes, device='meta')
    return expected


def convert_released(src: str, dst: str, reverse: bool = False) -> str:
    """Converts a released checkpoint to one of our models, or back.

    Ours is mmpretrain's ImageClassifier or, for image generation, ``mmwf.GaussianDiffusion``.

    Args:
        src: As in :func:`mmwf.checkpoint.read_checkpoint`.
        dst: The file to write: a ``.pth``, or with ``reverse`` also a ``.safetensors``.
        reverse: Whether to go from ours to released.

    Returns:
        A sentence that says what was done and how many keys matched.

    Raises:
        UserError: If the file is no WeightFormer classifier or denoiser, or incomplete.
    """
    suffix = Path(dst).suffix
    if suffix != '.pth' and not (reverse and suffix == '.safetensors'):
        raise UserError(
            f'Expected DST to end in .pth{" or .safetensors" if reverse else ""}, got {dst}.'
        )
    check_checkpoint(src)
    try:
        state_dict = read_checkpoint(src)['state_dict']
        expected = _expected_weights(state_dict)
    except (KeyError, ValueError) as error:
        raise UserError(f'{src} is no WeightFormer classifier or denoiser: {error}') from error
    match = match_keys(expected, state_dict)
    if not match.is_exact:
        raise UserError(f'{src} is no complete WeightFormer classifier or denoiser: {match}.')
    if reverse:
        content = {'model': mmwf_to_released(state_dict)}
    else:
        meta = dict(mmwf_version=__version__, converted_from=Path(src).name)
        content = dict(meta=meta, state_dict=dict(state_dict))
    with _whole_file(dst) as partial:
        if suffix == '.safetensors':
            save_file({k: v.contiguous() for k, v in content['model'].items()}, partial)
        else:
            torch.save(content, partial)
    return f'{src} -> {dst}: {match}.'


@contextlib.contextmanager
def _whole_file(dst: str) -> Iterator[Path]:
    """Gives a path to write to; it becomes ``dst`` when the writing is done."""
    partial = Path(f'{dst}.part')
    partial.parent.mkdir(parents=True, exist_ok=True)
    yield partial
    os.replace(partial, dst)


def convert_deit(src: str, dst: str) -> str:
    """Makes the backbone of mmpretrain's ViTSAM, as the detection baselines use it, from a DeiT.

    The class token, its position and the last norm are left out, as in ViTDet.

    Args:
        src: Checkpoint of an ImageClassifier with mmpretrain's VisionTransformer.
        dst: The file to write: a ``.pth`` for ``init_cfg=dict(type='Pretrained', ...)``.

    Returns:
        A sentence that says what was done.

    Raises:
        UserError: If the file holds no such classifier.
    """
    check_checkpoint(src)
    state_dict = read_checkpoint(src)['state_dict']
    kept = {
        key.removeprefix('backbone.'): value
        for key, value in state_dict.items()
        if re.match(r'backbone\.(pos_embed$|patch_embed\.|layers\.)', key)
    }
    if 'pos_embed' not in kept or 'layers.0.attn.qkv.weight' not in kept:
        raise UserError(
            f"{src} is no DeiT of mmpretrain's: expected backbone.pos_embed and "
            f'backbone.layers.0.attn.qkv.weight, got {", ".join(list(state_dict)[:3])}, ...'
        )
    positions = kept['pos_embed']  # (1, extra tokens + side * side, C)
    side = math.isqrt(positions.shape[1])
    patches = positions[:, positions.shape[1] - side**2 :]
    kept['pos_embed'] = patches.reshape(1, side, side, -1).clone()
    meta = dict(mmwf_version=__version__, converted_from=Path(src).name)
    with _whole_file(dst) as partial:
        torch.save(dict(meta=meta, state_dict=kept), partial)
    return f'{src} -> {dst}: {len(kept)} of {len(state_dict)} keys kept.'
