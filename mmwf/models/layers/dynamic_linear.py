"""A linear layer whose weight is predicted from the whole image, and its predictors.

Shapes: B images, H x W tokens (N = H W, M after 2 x 2 pooling), C input width, D output width, R
bottleneck width. X (N, C) are the tokens of an image, X' (M, C) the pooled tokens, and
G = X'^T X' / N (C, C) the correlation of the channels.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmwf import ops

from .predictor import WeightPredictor, get_predictor

_is_exporting = getattr(torch.compiler, 'is_exporting', lambda: False)  # torch 2.6 has none


def pool_tokens(x: Tensor) -> Tensor:
    """Average-pools tokens over 2 x 2 windows: maps (B, H, W, C) to (B, M, C).

    An odd last row or column is dropped, unless it is the only one.
    """
    h, w = x.shape[1:3]
    image = x.permute(0, 3, 1, 2)
    if h == 1 or w == 1:  # the released code rounds up: rounding down would leave nothing
        pooled = F.avg_pool2d(image, 2, ceil_mode=True)
    elif _is_exporting():  # the layout of a part would fix whether the sizes are odd or even
        corners = [x[:, i : h // 2 * 2 : 2, j : w // 2 * 2 : 2] for i in (0, 1) for j in (0, 1)]
        return (sum(corners) / 4).flatten(1, 2)
    else:
        # Without the odd row or column, compiled code need not distinguish odd from even sizes.
        pooled = F.avg_pool2d(image[:, :, : h // 2 * 2, : w // 2 * 2], 2)
    return pooled.flatten(2).transpose(1, 2)


def correlate_tokens(x: Tensor) -> Tensor:
    """Computes G, the channel correlation of the pooled tokens: (B, H, W, C) to (B, C, C)."""
    pooled = pool_tokens(x)
    num_tokens = x.shape[1] * x.shape[2]
    # Divide before the product: in fp16 the sum over the tokens overflows.
    return (pooled / num_tokens).transpose(1, 2) @ pooled


def _weight(*shape: int) -> nn.Parameter:
    return nn.Parameter(nn.init.trunc_normal_(torch.empty(shape), std=0.02))


class GapPredictor(WeightPredictor):
    """Predicts a low-rank update from the mean token (paper eq. 4):

        dW = L^T P,  [L, P] = MLP(mean(X))        L: (4, C)   P: (4, D)   MLP: C -> R -> 4 (C + D)

    Parameters: C*R + R + 4*R*(C + D)
    Multiply-adds: C*R + 4*R*(C + D) + 4*C*D

    Note:
        The paper reshapes the output of the MLP to dW. At D = 4 C, a layer with C D outputs would
        have more parameters than the rest of the network; 4 (C + D) outputs give a dW of rank 4.

    Args:
        in_features: C.
        out_features: D.
    """

    rank = 4
    norm_dims = 1

    def __init__(self, in_features: int, out_features: int):
        super().__init__()
        self.widths = in_features, out_features
        hidden = math.ceil(in_features / 4)
        self.mlp = nn.Sequential(
            nn.Linear(in_features, hidden),
            nn.GELU(),
            nn.Linear(hidden, self.rank * sum(self.widths), bias=False),
        )
        nn.init.trunc_normal_(self.mlp[0].weight, std=0.02)
        nn.init.zeros_(self.mlp[0].bias)
        nn.init.trunc_normal_(self.mlp[2].weight, std=0.02)

    def predict(self, x: Tensor) -> Tensor:
        """Maps (B, H, W, C) to (B, C, D)."""
        factors = self.mlp(x.mean(dim=(1, 2))).unflatten(1, (self.rank, -1))  # (B, 4, C + D)
        left, right = factors.split(self.widths, dim=-1)
        return left.transpose(1, 2) @ right


class CorrelationPredictor(WeightPredictor):
    """Predicts the update from the channel correlation (paper eq. 5):

        dW = W1 G W2        W1: (C, C)   W2: (C, D)

    Parameters: C*C + C*D
    Multiply-adds: M*C*C + C*C*(C + D)

    Args:
        in_features: C.
        out_features: D.
    """

    norm_dims = 1

    def __init__(self, in_features: int, out_features: int):
        super().__init__()
        self.left = _weight(in_features, in_features)
        self.right = _weight(in_features, out_features)

    def predict(self, x: Tensor) -> Tensor:
        """Maps (B, H, W, C) to (B, C, D)."""
        return self.left @ correlate_tokens(x) @ self.right


class NonlinearCorrelationPredictor(CorrelationPredictor):
    """Predicts the update from the channel correlation, with an activation (paper eq. 6):

        dW = silu(W1 G W2)        W1: (C, C)   W2: (C, D)

    Parameters: C*C + C*D
    Multiply-adds: M*C*C + C*C*(C + D)

    Args:
        in_features: C.
        out_features: D.
    """

    def predict(self, x: Tensor) -> Tensor:
        """Maps (B, H, W, C) to (B, C, D)."""
        return F.silu(super().predict(x))


class UnpooledCorrelationPredictor(CorrelationPredictor):
    """Predicts the update from the channel correlation of all tokens, not pooled (paper table 2):

        dW = W1 (X^T X / N) W2        W1: (C, C)   W2: (C, D)

    Parameters: C*C + C*D
    Multiply-adds: N*C*C + C*C*(C + D)

    Args:
        in_features: C.
        out_features: D.
    """

    def predict(self, x: Tensor) -> Tensor:
        """Maps (B, H, W, C) to (B, C, D)."""
        tokens = x.flatten(1, 2)
        # As in correlate_tokens.
        correlation = (tokens / tokens.shape[1]).transpose(1, 2) @ tokens
        return self.left @ correlation @ self.right


class DeepCorrelationPredictor(WeightPredictor):
    """Predicts the update from the channel correlation by a low-rank MLP (paper eq. 7):

        dW = W1 silu(W2 G W3) W4        W1: (C, R)   W2: (R, C)   W3: (C, R)   W4: (R, D)

    Parameters: 3*C*R + R*D
    Multiply-adds: M*C*C + R*C*C + 2*C*R*R + C*R*D

    Args:
        in_features: C.
        out_features: D.
    """

    norm_dims = 1

    def __init__(self, in_features: int, out_features: int):
        super().__init__()
        rank = math.ceil(in_features / 4)
        self.outer_left = _weight(in_features, rank)
        self.inner_left = _weight(rank, in_features)
        self.inner_right = _weight(in_features, rank)
        self.outer_right = _weight(rank, out_features)

    def predict(self, x: Tensor) -> Tensor:
        """Maps (B, H, W, C) to (B, C, D)."""
        inner = F.silu(self.inner_left @ correlate_tokens(x) @ self.inner_right)  # (B, R, R)
        return self.outer_left @ inner @ self.outer_right


class BilateralPredictor(WeightPredictor):
    """Predicts the update from two activated projections (paper eq. 8, with r = 4):

        dW = (silu(X' Wa + ba) U)^T (silu(X' Wb + bb) V) * C^-0.5 / N

        Wa: (C, C/r)   U: (C/r, C)   Wb: (C, D/r)   V: (D/r, D)

    Parameters: (C + 1)*(C + D)/4 + (C*C + D*D)/4
    Multiply-adds: M*(C*(C + D)/4 + (C*C + D*D)/4 + C*D)

    Args:
        in_features: C, a multiple of 4.
        out_features: D, a multiple of 4.

    Raises:
        ValueError: If C or D is not a multiple of 4.
    """

    reduction = 4
    norm_dims = 1

    def __init__(self, in_features: int, out_features: int):
        super().__init__()
        if in_features % self.reduction or out_features % self.reduction:
            raise ValueError(
                f'Expected widths of the bilateral predictor to be multiples of {self.reduction}, '
                f'got {in_features} -> {out_features}.'
            )
        self.widths = in_features // self.reduction, out_features // self.reduction
        self.proj = nn.Linear(in_features, sum(self.widths))
        nn.init.trunc_normal_(self.proj.weight, std=0.02)
        nn.init.zeros_(self.proj.bias)
        self.u = _weight(self.widths[0], in_features)
        self.v = _weight(self.widths[1], out_features)

    def predict(self, x: Tensor) -> Tensor | ops.LowRank:
        """Maps (B, H, W, C) to (B, C, D), or its factors."""
        _, h, w, c = x.shape
        a, p = self.proj(pool_tokens(x)).split(self.widths, dim=-1)
        return ops.bilateral_weight(a, p, self.u, self.v, scale=c**-0.5 / (h * w))


LINEAR_PREDICTORS: dict[str, type[WeightPredictor]] = {
    'gap': GapPredictor,
    'linear': CorrelationPredictor,
    'nonlinear': NonlinearCorrelationPredictor,
    'unpooled': UnpooledCorrelationPredictor,
    'deep': DeepCorrelationPredictor,
    'bilateral': BilateralPredictor,
}


class DynamicLinear(nn.Module):
    """Linear layer ``X (W0 + dW(X)) + b``, with dW predicted from all tokens of X (paper eq. 3).

    Args:
        in_features: C.
        out_features: D.
        predictor: One of ``LINEAR_PREDICTORS``.

    Raises:
        ValueError: If the predictor is unknown or does not support these widths.
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
