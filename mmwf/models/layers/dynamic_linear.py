"""A linear layer whose weight is predicted from the whole image, and its predictors.

Shapes: B images, H x W tokens (N = H W), C input width, D output width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmwf import ops

from .predictor import WeightPredictor, get_predictor


class BilateralPredictor(WeightPredictor):
    """Predicts from a correlation of two activated projections (paper eq. 8), with r = 4:

        dW = (silu(X' Wa + ba) U)^T (silu(X' Wb + bb) V) * C^-0.5 / N

    X' is X averaged over 2 x 2 tokens; N counts the tokens before that.

    Args:
        in_features: C, a multiple of 4.
        out_features: D, a multiple of 4.

    Raises:
        ValueError: If a width is not a multiple of 4.
    """

    reduction = 4
    norm_dims = 1

    def __init__(self, in_features: int, out_features: int):
        super().__init__()
        if in_features % self.reduction or out_features % self.reduction:
            raise ValueError(
                f'The bilateral predictor expects widths that are multiples of {self.reduction}, '
                f'got {in_features} -> {out_features}.'
            )
        self.widths = in_features // self.reduction, out_features // self.reduction
        self.proj = nn.Linear(in_features, sum(self.widths))
        self.u = nn.Parameter(torch.empty(self.widths[0], in_features))
        self.v = nn.Parameter(torch.empty(self.widths[1], out_features))
        for weight in (self.proj.weight, self.u, self.v):
            nn.init.trunc_normal_(weight, std=0.02)
        nn.init.zeros_(self.proj.bias)

    def predict(self, x: Tensor) -> Tensor:
        """Maps (B, H, W, C) to (B, C, D)."""
        _, h, w, c = x.shape
        # A grid of a single row or column would vanish in floor mode.
        pooled = F.avg_pool2d(x.permute(0, 3, 1, 2), 2, ceil_mode=min(h, w) == 1)
        a, p = self.proj(pooled.flatten(2).transpose(1, 2)).split(self.widths, dim=-1)
        return ops.bilateral_weight(a, p, self.u, self.v, scale=c**-0.5 / (h * w))


LINEAR_PREDICTORS: dict[str, type[WeightPredictor]] = {'bilateral': BilateralPredictor}


class DynamicLinear(nn.Module):
    """Computes ``X (W0 + dW(X)) + b``, with dW predicted from all tokens of X (paper eq. 3).

    Args:
        in_features: C.
        out_features: D.
        predictor: One of ``LINEAR_PREDICTORS``.

    Raises:
        ValueError: If the predictor is not known or does not fit the widths.
    """

    def __init__(self, in_features: int, out_features: int, predictor: str = 'bilateral'):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(in_features, out_features))  # W0, input-first
        self.bias = nn.Parameter(torch.empty(out_features))
        self.predictor = get_predictor(predictor, LINEAR_PREDICTORS)(in_features, out_features)
        nn.init.trunc_normal_(self.weight, std=0.02)
        nn.init.trunc_normal_(self.bias, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, H, W, C) to (B, H, W, D)."""
        return ops.dynamic_linear(x, self.weight, self.predictor(x), self.bias)

    def extra_repr(self) -> str:
        return f'in_features={self.weight.shape[0]}, out_features={self.weight.shape[1]}'
