"""The network that predicts the noise in an image or latent: DiT with its attention replaced.

Shapes: B images, S x S pixels or latent cells, P patch size, H = W = S / P tokens, C width.
"""

import math

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmwf.errors import UserError
from mmwf.registry import MODELS

from ..layers import DWConv2d, DynamicDWConv2d, DynamicLinear, Mlp, PatchEmbed
from .blocks import Attention, DiTBlock, Modulation, WeightFormerDiTBlock, modulate

NUM_TIME_FEATURES = 256
GUIDED_CHANNELS = 3


def sinusoids(positions: Tensor, num_features: int) -> tuple[Tensor, Tensor]:
    """Computes cosine and sine of positions at falling frequencies.

    Args:
        positions: (...).
        num_features: F, for each of the two; frequency k is ``10000 ** (-k / F)``.

    Returns:
        Two tensors (..., F).
    """
    exponents = torch.arange(num_features, dtype=positions.dtype, device=positions.device)
    angles = positions[..., None] * torch.exp(-math.log(10000) * exponents / num_features)
    return angles.cos(), angles.sin()


def position_table(embed_dims: int, side: int) -> Tensor:
    """Computes fixed position embeddings of a grid (side, side), as in MAE and DiT.

    Returns:
        (1, side * side, embed_dims): for each token sine and cosine of the column, then of the row.
    """
    cos, sin = sinusoids(torch.arange(side, dtype=torch.float64), embed_dims // 4)
    line = torch.cat([sin, cos], dim=1)  # (side, C / 2)
    columns, rows = line.expand(side, -1, -1), line[:, None].expand(-1, side, -1)
    return torch.cat([columns, rows], dim=-1).flatten(0, 1)[None].float()


class TimeEmbed(nn.Module):
    """Embeds time steps by an MLP on sinusoidal features.

    Args:
        embed_dims: C.
    """

    def __init__(self, embed_dims: int):
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(NUM_TIME_FEATURES, embed_dims), nn.SiLU(), nn.Linear(embed_dims, embed_dims)
        )

    def forward(self, timesteps: Tensor) -> Tensor:
        """Maps (B,) to (B, C)."""
        features = torch.cat(sinusoids(timesteps.float(), NUM_TIME_FEATURES // 2), dim=1)
        return self.mlp(features.to(self.mlp[0].weight.dtype))


class FinalLayer(nn.Module):
    """Maps tokens to patches.

    Args:
        embed_dims: C.
        patch_size: P.
        out_channels: Channels of a patch.
    """

    def __init__(self, embed_dims: int, patch_size: int, out_channels: int):
        super().__init__()
        self.norm = nn.LayerNorm(embed_dims, eps=1e-6, elementwise_affine=False)
        self.modulation = Modulation(embed_dims, 2)
        self.linear = nn.Linear(embed_dims, patch_size**2 * out_channels)
        self.patch_size = patch_size

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Maps tokens (B, H, W, C) and conditions (B, C) to (B, out_channels, S, S)."""
        x = self.linear(modulate(self.norm(x), *self.modulation(condition)))
        x = x.unflatten(-1, (self.patch_size, self.patch_size, -1))  # (B, H, W, P, P, channels)
        return x.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)


@MODELS.register_module()
class Denoiser(BaseModule):
    """Predicts the noise in an image and its variance (arXiv 2605.01711, section 5.4).

    DiT (arXiv 2212.09748) with WeightFormer's blocks, two thirds of them static, in place of
    attention; or DiT itself.

    Args:
        arch: ``'weightformer-small'``, ``'weightformer-base'``, ``'dit-small'``, ``'dit-base'``, or
            a dict with ``embed_dims`` (a multiple of 4), ``depth`` and ``mlp_ratio``, and
            ``num_heads`` for DiT's blocks.
        input_size: S.
        patch_size: P.
        in_channels: Channels of the image or latent.
        num_classes: Number of classes.
        label_drop_rate: Share of the labels that training replaces by "no label", in [0, 1). At 0
            there is no such row in the label table, and no classifier-free guidance.
        with_cp: Whether to trade compute for memory by gradient checkpointing of the blocks.
        init_cfg: As in MMEngine. By default as in DiT; the dynamic layers as in the backbone.

    Raises:
        ValueError: If an argument is not one of the above.
    """

    arch_zoo = {
        'weightformer-small': dict(embed_dims=384, depth=15, mlp_ratio=4),
        'weightformer-base': dict(embed_dims=768, depth=15, mlp_ratio=4),
        'dit-small': dict(embed_dims=384, depth=12, mlp_ratio=4, num_heads=6),
        'dit-base': dict(embed_dims=768, depth=12, mlp_ratio=4, num_heads=12),
    }

    def __init__(
        self,
        arch: str | dict = 'weightformer-small',
        input_size: int = 32,
        patch_size: int = 2,
        in_channels: int = 4,
        num_classes: int = 1000,
        label_drop_rate: float = 0.1,
        with_cp: bool = False,
        init_cfg: dict | list | None = None,
    ):
        super().__init__(init_cfg)
        arch = self._parse_arch(arch)
        if input_size % patch_size:
            raise ValueError(
                f'Expected input_size to be a multiple of patch_size, got {input_size} and '
                f'{patch_size}.'
            )
        if not 0 <= label_drop_rate < 1:
            raise ValueError(f'Expected label_drop_rate in [0, 1), got {label_drop_rate}.')
        self.input_size, self.in_channels = input_size, in_channels
        self.num_classes = num_classes
        self.label_drop_rate = label_drop_rate
        self.with_cp = with_cp

        width, hidden = arch['embed_dims'], int(arch['embed_dims'] * arch['mlp_ratio'])
        self.patch_embed = PatchEmbed(in_channels, width, patch_size)
        self.register_buffer('pos_embed', position_table(width, input_size // patch_size))
        self.time_embed = TimeEmbed(width)
        self.label_embed = nn.Embedding(num_classes + self.knows_no_label, width)

        def build_block(index: int) -> nn.Module:
            dynamic = 'num_heads' not in arch and index % 3 == 1
            fc1 = (DynamicLinear if dynamic else nn.Linear)(width, hidden)
            mlp = Mlp(fc1, nn.Linear(hidden, width), approximate='tanh')
            if 'num_heads' in arch:
                return DiTBlock(width, Attention(width, arch['num_heads']), mlp)
            dwconv = (DynamicDWConv2d if dynamic else DWConv2d)(width)
            return WeightFormerDiTBlock(width, dwconv, mlp)

        self.blocks = nn.ModuleList(map(build_block, range(arch['depth'])))
        self.final_layer = FinalLayer(width, patch_size, 2 * in_channels)
        self._init_layers()

    def _parse_arch(self, arch: str | dict) -> dict:
        if isinstance(arch, str):
            if arch not in self.arch_zoo:
                raise ValueError(
                    f'Expected arch to be one of {sorted(self.arch_zoo)} or a dict, got {arch!r}.'
                )
            return self.arch_zoo[arch]
        expected = {'embed_dims', 'depth', 'mlp_ratio'}
        if not expected <= set(arch) <= expected | {'num_heads'}:
            raise ValueError(
                f'Expected an arch with {sorted(expected)} and perhaps num_heads, '
                f'got {sorted(arch)}.'
            )
        if arch['embed_dims'] % 4:  # sine and cosine of row and column
            raise ValueError(
                f'Expected embed_dims to be a multiple of 4, got {arch["embed_dims"]}.'
            )
        return arch

    def _init_layers(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.xavier_uniform_(self.patch_embed.proj.weight.flatten(1))
        nn.init.zeros_(self.patch_embed.proj.bias)
        time_mlp = self.time_embed.mlp
        for weight in (self.label_embed.weight, time_mlp[0].weight, time_mlp[2].weight):
            nn.init.normal_(weight, std=0.02)
        # All shifts, scales and gates begin at zero, and so does the output.
        modulations = [module[1] for module in self.modules() if isinstance(module, Modulation)]
        for linear in (*modulations, self.final_layer.linear):
            nn.init.zeros_(linear.weight)

    @property
    def knows_no_label(self) -> bool:
        """Whether the label table has a row for "no label", its last one."""
        return self.label_drop_rate > 0

    def check_guidance(self, cfg_scale: float) -> None:
        """Checks that this denoiser can guide.

        Raises:
            UserError: If it has no row for "no label", and ``cfg_scale`` is not 1.
        """
        if cfg_scale != 1 and not self.knows_no_label:
            raise UserError(
                'Guidance compares with a prediction without label, which this denoiser is not '
                'trained for: expected label_drop_rate > 0 or cfg_scale=1, got label_drop_rate=0 '
                f'and cfg_scale={cfg_scale}.'
            )

    def forward(self, x: Tensor, timesteps: Tensor, labels: Tensor) -> Tensor:
        """Predicts noise and variance.

        Args:
            x: Noisy images or latents, (B, in_channels, S, S).
            timesteps: (B,), from 0.
            labels: (B,); ``num_classes`` is "no label". In training some are replaced by it.

        Returns:
            (B, 2 * in_channels, S, S): the noise, then where the variance's logarithm lies between
            its bounds, from -1 to 1 (see :mod:`.objective`).

        Raises:
            UserError: If x has another shape.
        """
        expected = (self.in_channels, self.input_size, self.input_size)
        if x.shape[1:] != expected:
            raise UserError(
                f'Expected inputs of shape (batch, {", ".join(map(str, expected))}), got '
                f'{tuple(x.shape)}. The denoiser has in_channels={expected[0]} and '
                f'input_size={expected[1]}; latents have an eighth of the side of their images.'
            )
        if self.training and self.knows_no_label:
            dropped = torch.rand(labels.shape, device=labels.device) < self.label_drop_rate
            labels = torch.where(dropped, self.num_classes, labels)
        x = self.patch_embed(x)  # (B, H, W, C)
        x = x + self.pos_embed.view(1, *x.shape[1:])
        condition = self.time_embed(timesteps) + self.label_embed(labels)  # (B, C)
        for block in self.blocks:
            if self.with_cp and x.requires_grad:
                x = checkpoint(block, x, condition, use_reentrant=False)
            else:
                x = block(x, condition)
        return self.final_layer(x, condition)

    def forward_guided(
        self, x: Tensor, timesteps: Tensor, labels: Tensor, cfg_scale: float
    ) -> Tensor:
        """Predicts with classifier-free guidance: ``without + cfg_scale * (with - without)``.

        Note:
            Guided are the first three channels of the noise, as in DiT. The rest, the variance
            included, is the prediction with label.

        Args:
            x, timesteps, labels: As in :meth:`forward`.
            cfg_scale: 1 is no guidance.

        Returns:
            As :meth:`forward`.

        Raises:
            UserError: If the label table has no row for "no label".
        """
        self.check_guidance(cfg_scale)
        if cfg_scale == 1:
            return self(x, timesteps, labels)
        no_labels = torch.full_like(labels, self.num_classes)
        both = self(x.repeat(2, 1, 1, 1), timesteps.repeat(2), torch.cat([labels, no_labels]))
        conditional, unconditional = both.chunk(2)
        guided = min(GUIDED_CHANNELS, self.in_channels)
        noise = torch.lerp(unconditional[:, :guided], conditional[:, :guided], cfg_scale)
        return torch.cat([noise, conditional[:, guided:]], dim=1)
