"""Layers with static weights. Tokens are (B, H, W, C) everywhere inside the backbone."""

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn

from mmwf import ops


class PatchEmbed(nn.Module):
    """Splits an image into patches and projects each patch to a token.

    An image whose height or width is not a multiple of the patch size is zero-padded at the right
    and bottom.

    Args:
        in_channels: Channels of the image.
        embed_dims: C.
        patch_size: Height and width of a patch in pixels.
    """

    def __init__(self, in_channels: int, embed_dims: int, patch_size: int):
        super().__init__()
        self.patch_size = patch_size
        self.proj = nn.Conv2d(in_channels, embed_dims, patch_size, stride=patch_size)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, in_channels, height, width) to (B, H, W, C)."""
        # Exported for all sizes, it adds more, of which the stride drops what makes no whole patch.
        pad_bottom, pad_right = (
            -size % self.patch_size if isinstance(size, int) else self.patch_size - 1
            for size in x.shape[-2:]
        )
        if pad_bottom or pad_right:
            x = F.pad(x, (0, pad_right, 0, pad_bottom))
        return self.proj(x).permute(0, 2, 3, 1)


class DWConv2d(nn.Conv2d):
    """A depthwise convolution of tokens, stride 1, zero-padded to keep the size.

    Args:
        channels: C.
        kernel_size: Height and width of the kernel, odd.
    """

    def __init__(self, channels: int, kernel_size: int = 3):
        super().__init__(channels, channels, kernel_size, padding=kernel_size // 2, groups=channels)
        # Channels-last tokens give a channels-last gradient, and DDP warns if its strides differ
        # from those of the weight.
        weight = torch.empty_like(self.weight, memory_format=torch.channels_last)
        self.weight = nn.Parameter(weight.copy_(self.weight.detach()))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, H, W, C) to (B, H, W, C)."""
        return ops.dwconv2d(x, self.weight, self.bias)


class PointwiseConv2d(nn.Conv2d):
    """A 1 x 1 convolution, computed as a linear layer.

    PyTorch chooses among its convolutions by the sizes, which makes compiled code depend on them,
    and its choice on the CPU is slow for small images.

    Args:
        in_channels: C.
        out_channels: D.
        bias: Whether to add a bias.
    """

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True):
        super().__init__(in_channels, out_channels, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, H, W) to (B, D, H, W)."""
        y = F.linear(x.permute(0, 2, 3, 1), self.weight.flatten(1), self.bias)
        return y.permute(0, 3, 1, 2)


class DropPath(nn.Module):
    """Drops a residual branch for randomly chosen images (stochastic depth, arXiv 1603.09382).

    Args:
        drop_prob: Probability of dropping the branch for an image, in [0, 1).
    """

    # Equal to torchvision's StochasticDepth(p, 'row'), but importing torchvision takes a second.

    def __init__(self, drop_prob: float):
        super().__init__()
        self.drop_prob = drop_prob

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, ...) to (B, ...); kept images are divided by the probability of keeping them."""
        if not self.training or self.drop_prob == 0:
            return x
        keep_prob = 1 - self.drop_prob
        mask = x.new_empty(x.shape[0], *[1] * (x.dim() - 1)).bernoulli_(keep_prob)
        return x * (mask / keep_prob)

    def extra_repr(self) -> str:
        return f'drop_prob={self.drop_prob:.3f}'


@MODELS.register_module(force=True)  # replaces the one of mmwf.placeholders
class LayerNorm2d(nn.Module):
    """LayerNorm over the channels of a (B, C, H, W) feature map.

    Not a subclass of :class:`torch.nn.LayerNorm`, so that ``norm_decay_mult`` does not apply to it:
    detectron2's ViTDet applies weight decay to its channels-first norms (solver/build.py).

    Args:
        channels: C.
        eps: Epsilon added to the variance.
    """

    def __init__(self, channels: int, eps: float = 1e-6):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, H, W) to (B, C, H, W), in the precision of the weights.

        Autocast runs LayerNorm in fp32 on CUDA but not on CPU. mmdet casts boxes to the precision
        of the feature pyramid, and bf16 would round coordinates from 512 to multiples of 4 pixels.
        """
        x = x.permute(0, 2, 3, 1).to(self.weight.dtype)
        x = F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2).contiguous()

    def extra_repr(self) -> str:
        return f'{len(self.weight)}, eps={self.eps}'
