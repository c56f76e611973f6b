"""A depthwise convolution whose kernel is predicted from the whole image, and its predictors.

Shapes: B images, H x W tokens (N = H W), C channels, K kernel size.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmwf import ops

from .predictor import WeightPredictor, get_predictor


def pool_grid(x: Tensor, size: int) -> Tensor:
    """Averages the tokens over a grid of any size: maps (B, H, W, C) to (B, C, size, size)."""
    pooled = F.adaptive_avg_pool2d(x.permute(0, 3, 1, 2), size)
    return pooled.contiguous()  # else the gradients' layout irritates DDP


class GapPredictor(WeightPredictor):
    """Predicts all kernel cells from the mean token (paper eq. 10):

        dK = reshape(MLP(mean of X)),  MLP: C -> R -> C K K

    Parameters: C*R + R + R*C*K*K
    Multiply-adds: C*R + R*C*K*K

    Args:
        channels: C.
        kernel_size: K.
    """

    norm_dims = (-2, -1)

    def __init__(self, channels: int, kernel_size: int):
        super().__init__()
        hidden = math.ceil(channels / 4)
        self.kernel_size = kernel_size
        self.squeeze = nn.Conv2d(channels, hidden, 1)
        self.expand = nn.Conv2d(hidden, channels * kernel_size**2, 1, bias=False)

    def predict(self, x: Tensor) -> Tensor:
        """Maps (B, H, W, C) to (B, C, K, K)."""
        kernels = self.expand(F.gelu(self.squeeze(pool_grid(x, 1))))  # (B, C K K, 1, 1)
        return kernels.view(len(x), -1, self.kernel_size, self.kernel_size)

    def cost(self, h: int, w: int) -> int:
        return self.squeeze.weight.numel() + self.expand.weight.numel()


class AdaptivePredictor(WeightPredictor):
    """Predicts each kernel cell from the part of the image it lies over (paper eq. 11):

        dK = Conv1x1(gelu(Conv1x1(AdaptiveAvgPool(X, K x K))))

    Parameters: 2*C*C + C
    Multiply-adds: 2*K*K*C*C

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
        return self.mlp(pool_grid(x, self.kernel_size))

    def cost(self, h: int, w: int) -> int:
        return 2 * self.kernel_size**2 * self.mlp[0].in_channels ** 2


class AmpDirPredictor(AdaptivePredictor):
    """Predicts each kernel's norm apart from its direction (paper eq. 12):

        F = Conv1x1(gelu(Conv1x1(AdaptiveAvgPool(X, K x K))))
        dK = sigmoid(mean of X * Ws) * F / (||F||_F + 1e-6)        Ws: (C, C), per channel

    The sigmoid keeps the norm below 1, so that it is not normalised again.

    Parameters: 3*C*C + C
    Multiply-adds: 2*K*K*C*C + C*C

    Args:
        channels: C.
        kernel_size: K.
    """

    eps = 1e-6

    def __init__(self, channels: int, kernel_size: int):
        super().__init__(channels, kernel_size)
        self.amplitude = nn.Conv2d(channels, channels, 1, bias=False)

    def predict(self, x: Tensor) -> Tensor:
        """Maps (B, H, W, C) to (B, C, K, K)."""
        direction = super().predict(x)
        norm = torch.linalg.vector_norm(direction, dim=self.norm_dims, keepdim=True)
        amplitude = self.amplitude(pool_grid(x, 1)).sigmoid()  # (B, C, 1, 1)
        return amplitude * (direction / (norm + self.eps))

    def normalize(self, delta: Tensor) -> Tensor:
        """Leaves (B, C, K, K) as it is."""
        return delta

    def cost(self, h: int, w: int) -> int:
        return super().cost(h, w) + self.amplitude.weight.numel()


class ConvPredictor(WeightPredictor):
    """Predicts by convolving the whole image before it is pooled (paper eq. 13):

        dK = AdaptiveAvgPool(Conv3x3(gelu(Conv3x3(X))), K x K),  C -> R -> C

    Parameters: 18*C*R + R
    Multiply-adds: 18*N*C*R

    Args:
        channels: C.
        kernel_size: K.
    """

    norm_dims = (-2, -1)

    def __init__(self, channels: int, kernel_size: int):
        super().__init__()
        hidden = math.ceil(channels / 4)
        self.kernel_size = kernel_size
        self.reduce = nn.Conv2d(channels, hidden, 3, padding=1)
        self.restore = nn.Conv2d(hidden, channels, 3, padding=1, bias=False)

    def predict(self, x: Tensor) -> Tensor:
        """Maps (B, H, W, C) to (B, C, K, K)."""
        image = x.permute(0, 3, 1, 2).contiguous()  # as in pool_grid
        features = self.restore(F.gelu(self.reduce(image)))  # (B, C, H, W)
        return F.adaptive_avg_pool2d(features, self.kernel_size)

    def cost(self, h: int, w: int) -> int:
        return h * w * (self.reduce.weight.numel() + self.restore.weight.numel())


DWCONV_PREDICTORS: dict[str, type[WeightPredictor]] = {
    'gap': GapPredictor,
    'adaptive': AdaptivePredictor,
    'amp-dir': AmpDirPredictor,
    'conv': ConvPredictor,
}


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
