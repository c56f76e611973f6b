"""A depthwise convolution whose kernel is predicted from the whole image, and its predictors.

Shapes: B images, H x W tokens (N = H W), C channels, K kernel size, R bottleneck width.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmwf import ops

from .basic import PointwiseConv2d
from .predictor import WeightPredictor, get_predictor


def pool_grid(x: Tensor, size: int) -> Tensor:
    """Average-pools tokens to a fixed grid: maps (B, H, W, C) to (B, C, size, size)."""
    pooled = F.adaptive_avg_pool2d(x.permute(0, 3, 1, 2), size)
    return pooled.contiguous()  # else DDP warns that gradient strides differ from the weights'


class GapPredictor(WeightPredictor):
    """Predicts the whole kernel from the mean token (paper eq. 10):

        dK = reshape(MLP(mean(X)))        MLP: C -> R -> C K K

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
        self.squeeze = PointwiseConv2d(channels, hidden)
        self.expand = PointwiseConv2d(hidden, channels * kernel_size**2, bias=False)

    def predict(self, x: Tensor) -> Tensor:
        """Maps (B, H, W, C) to (B, C, K, K)."""
        kernels = self.expand(F.gelu(self.squeeze(pool_grid(x, 1))))  # (B, C K K, 1, 1)
        return kernels.view(x.shape[0], -1, self.kernel_size, self.kernel_size)


class AdaptivePredictor(WeightPredictor):
    """Predicts each kernel element from the matching cell of a K x K grid (paper eq. 11):

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
            PointwiseConv2d(channels, channels),
            nn.GELU(),
            PointwiseConv2d(channels, channels, bias=False),
        )

    def predict(self, x: Tensor) -> Tensor:
        """Maps (B, H, W, C) to (B, C, K, K)."""
        return self.mlp(pool_grid(x, self.kernel_size))


class AmpDirPredictor(AdaptivePredictor):
    """Predicts amplitude and direction of each kernel separately (paper eq. 12):

        F = Conv1x1(gelu(Conv1x1(AdaptiveAvgPool(X, K x K))))
        dK = sigmoid(mean(X) Ws) * F / (||F||_F + 1e-6)        Ws: (C, C)

    with the Frobenius norm over each channel's kernel. The sigmoid already keeps the norm of dK
    below 1.

    Parameters: 3*C*C + C
    Multiply-adds: 2*K*K*C*C + C*C

    Args:
        channels: C.
        kernel_size: K.
    """

    eps = 1e-6

    def __init__(self, channels: int, kernel_size: int):
        super().__init__(channels, kernel_size)
        self.amplitude = PointwiseConv2d(channels, channels, bias=False)

    def predict(self, x: Tensor) -> Tensor:
        """Maps (B, H, W, C) to (B, C, K, K)."""
        direction = super().predict(x)
        norm = torch.linalg.vector_norm(direction, dim=self.norm_dims, keepdim=True)
        amplitude = self.amplitude(pool_grid(x, 1)).sigmoid()  # (B, C, 1, 1)
        return amplitude * (direction / (norm + self.eps))

    def normalize(self, delta: Tensor) -> Tensor:
        """Returns the update (B, C, K, K) unchanged: its norm is already below 1."""
        return delta


class ConvPredictor(WeightPredictor):
    """Predicts the kernel by convolving the whole image before pooling (paper eq. 13):

        dK = AdaptiveAvgPool(Conv3x3(gelu(Conv3x3(X))), K x K)        channels: C -> R -> C

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


DWCONV_PREDICTORS: dict[str, type[WeightPredictor]] = {
    'gap': GapPredictor,
    'adaptive': AdaptivePredictor,
    'amp-dir': AmpDirPredictor,
    'conv': ConvPredictor,
}


class DynamicDWConv2d(nn.Module):
    """Depthwise convolution of each image with its own kernel ``K0 + dK(X)`` (paper eq. 9).

    The stride is 1, and zero padding keeps the size.

    Args:
        channels: C.
        kernel_size: K, odd.
        predictor: One of ``DWCONV_PREDICTORS``.

    Raises:
        ValueError: If the predictor is unknown.
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
