"""A feature pyramid from a single feature map."""

from collections.abc import Sequence

import torch.nn.functional as F
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn

from ..arguments import MIN_EPS, check_number, check_sizes
from ..layers import LayerNorm2d


@MODELS.register_module(force=True)  # replaces the one of mmwf.placeholders
class SimpleFPN(BaseModule):
    """The simple feature pyramid of ViTDet (arXiv 2203.16527, section 3), as in detectron2.

    Each level is computed from the last feature map of a plain backbone. The scale factor of the
    level selects how the map is resized:

        4    2x2 transposed convolution C -> C/2, LayerNorm, GELU, 2x2 transposed convolution to C/4
        2    2x2 transposed convolution C -> C/2
        1    identity
        0.5  2x2 max pooling

    A 1x1 and a 3x3 convolution without bias follow, each with a LayerNorm after it. An extra level
    takes every second pixel of the level before it. For a map of stride 16, the default levels have
    strides 4 to 64.

    Args:
        in_channels: C, a multiple of 4.
        out_channels: Channels of each level.
        scale_factors: One or more of the scale factors above, in decreasing order.
        num_outs: Number of levels, at least that of ``scale_factors``; by default one more.
        norm_eps: Epsilon of the LayerNorms.
        init_cfg: As in MMEngine. By default convolutions are initialised as in PyTorch.

    Raises:
        ValueError: If ``in_channels``, ``scale_factors`` or ``num_outs`` is not as described.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int = 256,
        scale_factors: Sequence[float] = (4, 2, 1, 0.5),
        num_outs: int | None = None,
        norm_eps: float = 1e-6,
        init_cfg: dict | list | None = None,
    ):
        super().__init__(init_cfg)
        check_sizes(in_channels=in_channels, out_channels=out_channels)
        check_number('norm_eps', norm_eps, low=MIN_EPS)
        if in_channels % 4:
            raise ValueError(f'Expected in_channels to be a multiple of 4, got {in_channels}.')
        known = (4, 2, 1, 0.5)
        is_list = isinstance(scale_factors, (list, tuple)) and scale_factors
        if not is_list or list(scale_factors) != [s for s in known if s in scale_factors]:
            raise ValueError(
                f'Expected scale_factors to be one or more of {known} in decreasing order, '
                f'got {scale_factors}.'
            )
        num_outs = len(scale_factors) + 1 if num_outs is None else num_outs
        check_sizes(num_outs=num_outs)
        if num_outs < len(scale_factors):
            raise ValueError(
                f'Expected num_outs to be at least {len(scale_factors)}, the number of '
                f'scale_factors, got {num_outs}.'
            )
        half, quarter = in_channels // 2, in_channels // 4
        self.in_channels = in_channels
        self.num_outs = num_outs

        def build_level(scale: float) -> nn.Sequential:
            channels, resize = in_channels, []
            if scale == 4:
                channels = quarter
                resize = [
                    nn.ConvTranspose2d(in_channels, half, 2, stride=2),
                    LayerNorm2d(half, norm_eps),
                    nn.GELU(),
                    nn.ConvTranspose2d(half, quarter, 2, stride=2),
                ]
            elif scale == 2:
                channels = half
                resize = [nn.ConvTranspose2d(in_channels, half, 2, stride=2)]
            elif scale == 0.5:
                resize = [nn.MaxPool2d(2)]
            return nn.Sequential(
                *resize,
                nn.Conv2d(channels, out_channels, 1, bias=False),
                LayerNorm2d(out_channels, norm_eps),
                nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
                LayerNorm2d(out_channels, norm_eps),
            )

        self.levels = nn.ModuleList(build_level(scale) for scale in scale_factors)

    def forward(self, inputs: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Computes the pyramid.

        Args:
            inputs: A feature map (B, C, H, W) with H and W at least 2, or a tuple of one such map,
                as backbones return it.

        Returns:
            ``num_outs`` feature maps (B, out_channels, h, w); by default five with h = 4H, 2H, H,
            H // 2, ceil(H // 2 / 2).

        Raises:
            ValueError: If there is more than one feature map, or it does not have C channels, or it
                is smaller than 2 x 2.
        """
        maps = [inputs] if isinstance(inputs, Tensor) else inputs
        is_large = len(maps) == 1 and all(size >= 2 for size in maps[0].shape[2:])
        if not is_large or maps[0].shape[1] != self.in_channels:
            raise ValueError(
                f'Expected one feature map (B, {self.in_channels}, H, W), got '
                f'{[tuple(x.shape) for x in maps]}; H and W must be at least 2.'
            )
        outs = [level(maps[0]) for level in self.levels]
        while len(outs) < self.num_outs:
            outs.append(F.max_pool2d(outs[-1], kernel_size=1, stride=2))
        return tuple(outs)
