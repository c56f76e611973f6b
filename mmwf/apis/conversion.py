"""Converting checkpoints: released weights <-> ours, DeiT -> ViTDet."""

import math
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from mmwf.checkpoints import check_checkpoint, match_keys, read_checkpoint, save_checkpoint
from mmwf.checkpoints.deit_keys import deit_to_vitdet
from mmwf.checkpoints.released_keys import mmwf_to_released
from mmwf.errors import UserError
from mmwf.files import write_bytes
from mmwf.models import Denoiser, WeightFormer
from mmwf.version import __version__


def _meta_backbone(state_dict: Mapping[str, Tensor]) -> WeightFormer:
    """Builds the backbone that the weights of a classifier belong to, on the meta device.

    Args:
        state_dict: Weights with our keys, ``backbone.*``.

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


def _meta_denoiser(state_dict: Mapping[str, Tensor]) -> Denoiser:
    """Builds the denoiser that the weights belong to, on the meta device.

    Args:
        state_dict: Weights with our keys, ``denoiser.*``.

    Raises:
        KeyError: If the patch embedding, a position or label embedding, or the first MLP is
            missing.
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
    """Returns the meta-device state dict of the full model that these weights belong to."""
    if 'denoiser.patch_embed.proj.weight' in state_dict:
        return {f'denoiser.{k}': v for k, v in _meta_denoiser(state_dict).state_dict().items()}
    backbone = _meta_backbone(state_dict)
    expected = {f'backbone.{k}': v for k, v in backbone.state_dict().items()}
    if 'head.fc.weight' in state_dict:
        classes = len(state_dict['head.fc.weight'])
        expected['head.fc.weight'] = torch.empty(classes, backbone.embed_dims, device='meta')
        expected['head.fc.bias'] = torch.empty(classes, device='meta')
    return expected


def convert_released(src: str, dst: str, reverse: bool = False) -> str:
    """Converts released weights to a checkpoint for our models, or back.

    Our models are mmpretrain's ImageClassifier and, for image generation,
    ``mmwf.GaussianDiffusion``.

    Args:
        src: As in :func:`mmwf.checkpoints.read_checkpoint`.
        dst: The file to write: ``.pth``, or ``.safetensors`` if ``reverse``.
        reverse: Whether to convert a checkpoint of ours to the format of the released weights.

    Returns:
        A report with the number of matched keys.

    Raises:
        UserError: If ``src`` does not exist or is not a complete WeightFormer classifier or
            denoiser, or if ``dst`` has another suffix or cannot be written.
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
        raise UserError(f'{src} is not a WeightFormer classifier or denoiser: {error}') from error
    match = match_keys(expected, state_dict)
    if not match.is_exact:
        raise UserError(f'{src} is not a complete WeightFormer classifier or denoiser: {match}.')
    if reverse:
        content = {'model': mmwf_to_released(state_dict)}
    else:
        meta = dict(mmwf_version=__version__, converted_from=Path(src).name)
        content = dict(meta=meta, state_dict=dict(state_dict))
    if suffix == '.safetensors':
        write_bytes(dst, save({k: v.contiguous() for k, v in content['model'].items()}))
    else:
        save_checkpoint(content, dst)
    return f'{src} -> {dst}: {match}.'


def convert_deit(src: str, dst: str) -> str:
    """Converts a DeiT classifier to the backbone of the detection baselines, mmpretrain's ViTSAM.

    See :func:`mmwf.checkpoints.deit_keys.deit_to_vitdet`.

    Args:
        src: Checkpoint of mmpretrain's ImageClassifier with a VisionTransformer.
        dst: The ``.pth`` to write, for ``init_cfg=dict(type='Pretrained', checkpoint=dst)``.

    Returns:
        A report with the number of keys that were kept.

    Raises:
        UserError: If ``src`` does not exist or is not such a classifier, or ``dst`` cannot be
            written.
    """
    check_checkpoint(src)
    state_dict = read_checkpoint(src)['state_dict']
    try:
        kept = deit_to_vitdet(state_dict)
    except UserError as error:
        raise UserError(f'{src}: {error}') from error
    meta = dict(mmwf_version=__version__, converted_from=Path(src).name)
    save_checkpoint(dict(meta=meta, state_dict=kept), dst)
    return f'{src} -> {dst}: {len(kept)} of {len(state_dict)} keys kept.'
