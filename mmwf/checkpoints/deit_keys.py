"""State-dict keys: mmpretrain's VisionTransformer (DeiT) -> mmpretrain's ViTSAM (ViTDet)."""

import math
import re
from collections.abc import Mapping

from torch import Tensor

from mmwf.errors import UserError


def deit_to_vitdet(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Converts the weights of a DeiT classifier to those of ViTDet's backbone.

    The class token, its position embedding, the last norm and the head are dropped, as in ViTDet.

    Args:
        state_dict: Weights of mmpretrain's ImageClassifier with a VisionTransformer.

    Returns:
        Weights of mmpretrain's ViTSAM, with the position embedding as (1, H, W, C).

    Raises:
        UserError: If these are not the weights of such a classifier.
    """
    kept = {
        key.removeprefix('backbone.'): value
        for key, value in state_dict.items()
        if re.match(r'backbone\.(pos_embed$|patch_embed\.|layers\.)', key)
    }
    if 'pos_embed' not in kept or 'layers.0.attn.qkv.weight' not in kept:
        raise UserError(
            'not a DeiT from mmpretrain: expected backbone.pos_embed and '
            f'backbone.layers.0.attn.qkv.weight, got {", ".join(list(state_dict)[:3])}, ...'
        )
    positions = kept['pos_embed']  # (1, extra tokens + side * side, C)
    side = math.isqrt(positions.shape[1])
    patches = positions[:, positions.shape[1] - side**2 :]
    kept['pos_embed'] = patches.reshape(1, side, side, -1).clone()
    return kept
