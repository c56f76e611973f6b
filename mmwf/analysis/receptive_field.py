"""Effective receptive fields of backbones (paper figure 3)."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from mmwf.errors import UserError

SHARES = (0.2, 0.5, 0.99)  # of the response, for which squares are measured


def _last_feature_map(outputs) -> Tensor:
    """Returns the last output of a backbone, which must be a feature map (B, C, H, W)."""
    features = outputs[-1] if isinstance(outputs, (list, tuple)) else outputs
    if not isinstance(features, Tensor) or features.dim() != 4:
        got = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise UserError(
            f"Expected the backbone's last output to be a feature map (B, C, H, W), got {got}. "
            "Many backbones return one with out_type='featmap', timm's with features_only=True, "
            "mmpretrain's ConvNeXt with gap_before_final_norm=False."
        )
    return features


def effective_receptive_field(backbone: nn.Module, images: Iterable[Tensor]) -> Tensor:
    """Computes how strongly the centre of the output responds to each input pixel.

    The response is the derivative of sum(relu(y)) with respect to the pixel, where y are the
    channels at (H // 2, W // 2) of the backbone's last output. Its absolute values are summed over
    the input channels and averaged over the images.

    Note:
        The paper gives no formula but cites Luo et al. (arXiv 1701.04128), who differentiate the
        central output. The sum over the channels and the relu are RepLKNet's (arXiv 2203.06717).
        Without the relu, the sum over the channels of a LayerNorm at initialisation is constant,
        and its derivative zero. RepLKNet also drops negative derivatives; here they count too.

    Args:
        backbone: Maps images to a feature map (B, C, H, W), or to several, of which the last one is
            used. It is set to evaluation mode.
        images: Batches (B, channels, height, width), all of one size.

    Returns:
        The responses, (height, width), float64.

    Raises:
        UserError: If the output is not a feature map.
        ValueError: If there are no images.
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
        The centre is that of the image, as in RepLKNet's table. With an even number of patches, the
        patch at H // 2 is half a patch off centre, so the side may be up to one patch larger than
        around that patch.

    Args:
        field: Responses, (height, width).
        share: Share of the sum of the responses, in (0, 1].

    Returns:
        The side in pixels, at most the image's longer side. The square may extend beyond the
        shorter side.

    Raises:
        ValueError: If the share is out of range, or if all responses are zero.
    """
    if not 0 < share <= 1:
        raise ValueError(f'Expected a share in (0, 1], got {share}.')
    rows, columns = (torch.arange(n) * 2 + 1 - n for n in field.shape)  # twice the distance
    sides = torch.maximum(rows.abs()[:, None], columns.abs()).flatten() + 1  # to reach each pixel
    sides, order = sides.sort()
    held = field.double().cpu().flatten()[order].cumsum(0)
    if not held[-1] > 0:
        raise ValueError(f'Expected responses with a positive sum, got {held[-1].item()}.')
    return int(sides[torch.searchsorted(held, share * held[-1])])


def measure_squares(field: Tensor) -> dict[str, dict]:
    """Measures the smallest centred squares that hold ``SHARES`` of the response.

    Args:
        field: Responses, (height, width).

    Returns:
        By share, such as ``'50%'``: the ``side`` in pixels and ``area_share``, the share of the
        image's area.
    """
    height, width = field.shape
    squares = {}
    for share in SHARES:
        side = square_side(field, share)
        area = min(side, height) * min(side, width) / (height * width)
        squares[f'{share:.0%}'] = dict(side=side, area_share=round(area, 4))
    return squares
