"""How far a backbone sees: the effective receptive field (paper figure 3)."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from mmwf.errors import UserError


def _last_feature_map(outputs) -> Tensor:
    """Returns the last of a backbone's outputs, which must be a map (B, C, H, W)."""
    features = outputs[-1] if isinstance(outputs, (list, tuple)) else outputs
    if not isinstance(features, Tensor) or features.dim() != 4:
        got = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise UserError(
            f"Expected the backbone's last output to be a feature map (B, C, H, W), got {got}. "
            "Many backbones give one with out_type='featmap', timm's with features_only=True, "
            "mmpretrain's ConvNeXt with gap_before_final_norm=False."
        )
    return features


def effective_receptive_field(backbone: nn.Module, images: Iterable[Tensor]) -> Tensor:
    """Computes how strongly the centre of the output responds to each pixel of the input.

    The response is the derivative of the sum over the channels of relu(y) by the pixel, where y is
    the token at (H // 2, W // 2) of the backbone's last output; its absolute values are summed over
    the colours and averaged over the images.

    Note:
        The paper gives no formula but cites Luo et al. (arXiv 1701.04128), who differentiate the
        central output. The sum over the channels and the relu are RepLKNet's (arXiv 2203.06717).
        The relu matters: without it, the sum over the channels of a LayerNorm at its initial
        weights is constant, and its derivative zero. RepLKNet also drops negative derivatives; here
        an influence counts whatever its sign.

    Args:
        backbone: Maps images to a feature map (B, C, H, W), or to several, of which the last one is
            taken. It is put into evaluation mode.
        images: Batches (B, channels, height, width), all of one size.

    Returns:
        The responses, (height, width), in float64.

    Raises:
        ValueError: If the output is no feature map, or if there are no images.
    """
    backbone.eval()
    total, count = 0, 0
    for batch in images:
        batch = batch.detach().requires_grad_()
        features = _last_feature_map(backbone(batch))
        height, width = features.shape[-2:]
        response = features[:, :, height // 2, width // 2].relu().sum()
        (gradient,) = torch.autograd.grad(response, batch)
        total = total + gradient.double().abs().sum(dim=(0, 1))
        count += len(batch)
    if not count:
        raise ValueError('Expected at least one image, got none.')
    return total / count


def square_side(field: Tensor, share: float) -> int:
    """Finds the smallest square around the centre that holds a share of the response.

    Note:
        The centre is the image's, as in RepLKNet's table. Of an even number of patches, the one at
        H // 2 lies half a patch beside it, so that a side may be a patch larger than it would be
        around that patch.

    Args:
        field: Responses, (height, width).
        share: In (0, 1].

    Returns:
        The side in pixels, at most the image's longer side; what of the square lies outside the
        image counts nothing.

    Raises:
        ValueError: If the share is out of range, or if there is no response at all.
    """
    if not 0 < share <= 1:
        raise ValueError(f'Expected a share in (0, 1], got {share}.')
    rows, columns = (torch.arange(n) * 2 + 1 - n for n in field.shape)  # twice the distance
    sides = torch.maximum(rows.abs()[:, None], columns.abs()).flatten() + 1  # to hold each pixel
    sides, order = sides.sort()
    held = field.double().cpu().flatten()[order].cumsum(0)
    if not held[-1] > 0:
        raise ValueError(f'Expected responses with a positive sum, got {held[-1].item()}.')
    return int(sides[torch.searchsorted(held, share * held[-1])])
