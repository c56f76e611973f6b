"""A depthwise convolution whose kernel is predicted from the whole image, and its predictors.

Shapes: B images, H x W tokens, C channels, K kernel size.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmwf import ops

from .predictor import WeightPredictor, get_predictor


class AdaptivePredictor(WeightPredictor):
    """Predicts each kernel cell from the part of the image it lies over (paper eq. 11):

        dK = Conv1x1(gelu(Conv1x1(AdaptiveAvgPool(X, K x K))))

    Args:
        channels: C.
        kernel_size: K.
    """

    norm_dims = (-2, -1)

    def __init__(self, channels: int, kernel_size: int):
        super().__init__()
        self.kernel_size = kernel_size
        self.mlp = nn.Sequential(
            nn.Conv2d(channels, channels, 1),
            nn.GELU(),
            nn.Conv2d(channels, channels, 1, bias=False),
        )

    def predict(self, x: Tensor) -> Tensor:
        """Maps (B, H, W, C) to (B, C, K, K)."""
        pooled = F.adaptive_avg_pool2d(x.permute(0, 3, 1, 2), self.kernel_size)
        return self.mlp(pooled.contiguous())  # else the gradients' layout irritates DDP


DWCONV_PREDICTORS: dict[str, type[WeightPredictor]] = {'adaptive': AdaptivePredictor}


class DynamicDWConv2d(nn.Module):
    """Convolves each image depthwise with ``K0 + dK(X)`` (paper eq. 9); padding keeps the size.

    Args:
        channels: C.
        kernel_size: K, odd.
        predictor: One of ``DWCONV_PREDICTORS``.

    Raises:
        ValueError: If the predictor is not known.
    """

    def __init__(self, channels: int, kernel_size: int = 3, predictor: str = 'adaptive'):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, 1, kernel_size, kernel_size))  # K0
        self.bias = nn.Parameter(torch.empty(channels))
        self.predictor = get_predictor(predictor, DWCONV_PREDICTORS)(channels, kernel_size)
        nn.init.trunc_normal_(self.weight, std=0.02)
        nn.init.trunc_normal_(self.bias, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, H, W, C) to (B, H, W, C)."""
        return ops.dynamic_dwconv2d(x, self.weight, self.predictor(x), self.bias)

    def extra_repr(self) -> str:
        return f'channels={self.weight.shape[0]}, kernel_size={self.weight.shape[-1]}'
