"""WeightFormer in timm: ``timm.create_model('weightformer_tiny')``.

``import mmwf`` has this module imported as soon as timm has been, so that timm is imported only by
those who use it; and the model only by those who build it.
"""

import re
from collections.abc import Mapping

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn

from .checkpoints import match_keys, read_checkpoint
from .checkpoints.released_keys import is_released, released_to_mmwf
from .config_files import PUBLISHED
from .errors import UserError


def _pretrained_cfg(config: str, size: int) -> dict:
    """Returns timm's description of the published weights of a config."""
    return dict(
        hf_hub_id=PUBLISHED[config].removeprefix('hf://'),
        input_size=(3, size, size),
        pool_size=(size // 16, size // 16),
        # The images are resized to a square first, ignoring the aspect ratio: timm's 'squash'.
        crop_pct=0.875,
        crop_mode='squash',
        interpolation='bicubic',
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        first_conv='patch_embed.proj',
        classifier='head',
        paper_ids='arXiv:2605.01711',
    )


default_cfgs = generate_default_cfgs(
    {
        'weightformer_tiny.in1k': _pretrained_cfg('weightformer-tiny-p16_8xb256_in1k', 224),
        'weightformer_small.in1k': _pretrained_cfg('weightformer-small-p16_8xb256_in1k', 224),
        'weightformer_base.in1k': _pretrained_cfg('weightformer-base-p16_8xb256_in1k-448px', 448),
    }
)


def to_timm_keys(state_dict: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Renames the keys of a checkpoint for the model in timm.

    Args:
        state_dict: Released weights, those of mmpretrain's ImageClassifier, or timm's.
        model: The model that gets them.

    Raises:
        UserError: If other weights than those of the head are missing, or there are others.
    """
    if is_released(state_dict):
        state_dict = released_to_mmwf(state_dict)
    renamed = {re.sub(r'^backbone\.|(?<=^head\.)fc\.', '', k): v for k, v in state_dict.items()}
    match = match_keys(model.state_dict(), renamed)
    if any(not key.startswith('head.') for key in (*match.missing, *match.unexpected)):
        raise UserError(f'These weights do not fit the {type(model).__name__}: {match}.')
    return renamed


def _create(name: str, pretrained: bool, **kwargs) -> nn.Module:
    """Builds a model in the way of timm's own.

    A file in ``pretrained_cfg_overlay=dict(file=...)`` may be whatever :func:`.read_checkpoint`
    reads. timm cannot read checkpoints of MMEngine's trainings.
    """
    from .models.timm_classifier import TimmWeightFormer

    out_indices = kwargs.pop('out_indices', (4, 8, 12, 16))
    overlay = dict(kwargs.pop('pretrained_cfg_overlay', None) or {})
    if pretrained and overlay.get('file'):
        overlay['state_dict'] = read_checkpoint(overlay['file'])['state_dict']
    model = build_model_with_cfg(
        TimmWeightFormer,
        name,
        pretrained,
        pretrained_cfg_overlay=overlay,
        pretrained_filter_fn=to_timm_keys,
        feature_cfg=dict(out_indices=out_indices, feature_cls='getter'),
        arch=name.removeprefix('weightformer_'),
        **kwargs,
    )
    for module in model.modules():  # the model, and with features_only what wraps it
        getattr(module, 'pretrained_cfg', {}).pop('state_dict', None)
    return model


@register_model
def weightformer_tiny(pretrained: bool = False, **kwargs) -> nn.Module:
    """WeightFormer-T: 7.07 M parameters, 1.124 G multiply-adds at 224 x 224."""
    return _create('weightformer_tiny', pretrained, **kwargs)


@register_model
def weightformer_small(pretrained: bool = False, **kwargs) -> nn.Module:
    """WeightFormer-S: 27.49 M parameters, 4.428 G multiply-adds at 224 x 224."""
    return _create('weightformer_small', pretrained, **kwargs)


@register_model
def weightformer_base(pretrained: bool = False, **kwargs) -> nn.Module:
    """WeightFormer-B, which is WeightFormer-S trained at 448 x 448: 17.663 G multiply-adds."""
    return _create('weightformer_base', pretrained, **kwargs)
