"""The denoising network: DiT with WeightFormer's blocks or with its original ones.

Shapes: B images or latents of S x S pixels, P patch size, H = W = S / P tokens, C width.
"""

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmwf.errors import UserError, did_you_mean
from mmwf.registry import MODELS

from ..arguments import check_number, check_sizes
from ..layers import DWConv2d, DynamicDWConv2d, DynamicLinear, Mlp, PatchEmbed
from .blocks import Attention, DiTBlock, Modulation, WeightFormerDiTBlock, modulate

NUM_TIME_FEATURES = 256
GUIDED_CHANNELS = 3


def sincos_pos_embed(embed_dims: int, grid_size: int) -> Tensor:
    """Computes DiT's fixed position embedding of a square grid: (1, grid_size ** 2, embed_dims)."""
    from diffusers.models.embeddings import get_2d_sincos_pos_embed

    # With base_size=grid_size, positions are 0, 1, 2, ... as in DiT; by default they go up to 16.
    pos_embed = get_2d_sincos_pos_embed(
        embed_dims, grid_size, base_size=grid_size, output_type='pt'
    )
    return pos_embed.float().unsqueeze(0)


class TimeEmbed(nn.Module):
    """Embeds time steps by sinusoidal features and an MLP.

    Args:
        embed_dims: C.
    """

    def __init__(self, embed_dims: int):
        super().__init__()
        from diffusers.models.embeddings import Timesteps

        # As in DiT: cosines first, frequencies 10000 ** (-k / 128).
        self.time_proj = Timesteps(NUM_TIME_FEATURES, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.mlp = nn.Sequential(
            nn.Linear(NUM_TIME_FEATURES, embed_dims), nn.SiLU(), nn.Linear(embed_dims, embed_dims)
        )

    def forward(self, timesteps: Tensor) -> Tensor:
        """Maps (B,) to (B, C)."""
        return self.mlp(self.time_proj(timesteps).to(self.mlp[0].weight.dtype))


class FinalLayer(nn.Module):
    """Projects tokens to patches and assembles the image.

    Args:
        embed_dims: C.
        patch_size: P.
        out_channels: Channels of the image.
    """

    def __init__(self, embed_dims: int, patch_size: int, out_channels: int):
        super().__init__()
        self.norm = nn.LayerNorm(embed_dims, eps=1e-6, elementwise_affine=False)
        self.modulation = Modulation(embed_dims, 2)
        self.linear = nn.Linear(embed_dims, patch_size**2 * out_channels)
        self.patch_size = patch_size

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Maps tokens (B, H, W, C) and the condition (B, C) to (B, out_channels, S, S)."""
        x = self.linear(modulate(self.norm(x), *self.modulation(condition)))
        x = x.unflatten(-1, (self.patch_size, self.patch_size, -1))  # (B, H, W, P, P, channels)
        return x.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)


@MODELS.register_module()
class Denoiser(BaseModule):
    """Predicts the noise in an image and its variance (arXiv 2605.01711, section 5.4).

    DiT (arXiv 2212.09748) with WeightFormer's blocks, every third of them dynamic, in place of its
    own; or, as a baseline, DiT itself.

    Args:
        arch: ``'weightformer-small'``, ``'weightformer-base'``, ``'dit-small'``, ``'dit-base'``, or
            a dict with ``embed_dims`` (a multiple of 4), ``depth`` and ``mlp_ratio``, and
            ``num_heads`` to use DiT's blocks.
        input_size: S.
        patch_size: P.
        in_channels: Channels of the image or latent.
        num_classes: Number of classes.
        label_drop_rate: Probability that training replaces a label by the null label, in [0, 1).
            At 0 there is no embedding of the null label, and no classifier-free guidance.
        with_cp: Whether to trade compute for memory by gradient checkpointing of the blocks.
        init_cfg: As in MMEngine. By default initialised as in DiT, dynamic layers as in the
            backbone.

    Raises:
        ValueError: If an argument is not one of the above values or is out of range.
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
        check_sizes(
            input_size=input_size,
            patch_size=patch_size,
            in_channels=in_channels,
            num_classes=num_classes,
        )
        check_number('label_drop_rate', label_drop_rate, high=1)
        if input_size % patch_size:
            raise ValueError(
                f'Expected input_size to be a multiple of patch_size, got {input_size} and '
                f'{patch_size}.'
            )
        self.input_size, self.in_channels = input_size, in_channels
        self.num_classes = num_classes
        self.label_drop_rate = label_drop_rate
        self.with_cp = with_cp

        width, hidden = arch['embed_dims'], int(arch['embed_dims'] * arch['mlp_ratio'])
        self.patch_embed = PatchEmbed(in_channels, width, patch_size)
        self.register_buffer('pos_embed', sincos_pos_embed(width, input_size // patch_size))
        self.time_embed = TimeEmbed(width)
        self.label_embed = nn.Embedding(num_classes + self.use_cfg_embedding, width)

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
                    + did_you_mean(arch, self.arch_zoo)
                )
            return self.arch_zoo[arch]
        expected = {'embed_dims', 'depth', 'mlp_ratio'}
        is_dict = isinstance(arch, dict)
        if not is_dict or not expected <= set(arch) <= expected | {'num_heads'}:
            raise ValueError(
                f'Expected arch with keys {sorted(expected)} and optionally num_heads, '
                f'got {sorted(map(str, arch)) if is_dict else arch!r}.'
            )
        check_sizes(embed_dims=arch['embed_dims'], depth=arch['depth'])
        check_number('mlp_ratio', arch['mlp_ratio'], low=1 / arch['embed_dims'])
        if 'num_heads' in arch:
            check_sizes(num_heads=arch['num_heads'])
            if arch['embed_dims'] % arch['num_heads']:
                raise ValueError(
                    f'Expected embed_dims to be a multiple of num_heads, got {arch["embed_dims"]} '
                    f'and {arch["num_heads"]}.'
                )
        if arch['embed_dims'] % 4:  # sine and cosine for row and column
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
        # All shifts, scales and gates are zero at first, and so is the output.
        modulations = [module[1] for module in self.modules() if isinstance(module, Modulation)]
        for linear in (*modulations, self.final_layer.linear):
            nn.init.zeros_(linear.weight)

    @property
    def use_cfg_embedding(self) -> bool:
        """Whether the last row of ``label_embed`` is the null label of classifier-free guidance."""
        return self.label_drop_rate > 0

    def check_guidance(self, cfg_scale: float) -> None:
        """Checks that this denoiser supports a guidance scale.

        Raises:
            UserError: If ``cfg_scale`` is not 1 and there is no embedding of the null label.
        """
        if cfg_scale != 1 and not self.use_cfg_embedding:
            raise UserError(
                'Classifier-free guidance requires a denoiser trained with label dropout: expected '
                'label_drop_rate > 0 or cfg_scale=1, got label_drop_rate=0 and '
                f'cfg_scale={cfg_scale}.'
            )

    def forward(self, x: Tensor, timesteps: Tensor, labels: Tensor) -> Tensor:
        """Predicts noise and variance.

        Args:
            x: Noisy images or latents, (B, in_channels, S, S).
            timesteps: Time steps from 0, (B,).
            labels: Classes, (B,); ``num_classes`` is the null label, which in training replaces
                some of them.

        Returns:
            (B, 2 * in_channels, S, S): the noise, then the interpolation weight of the log
            variance, from -1 to 1 (see :func:`.variational_bound`).

        Raises:
            UserError: If x does not have ``in_channels`` or ``input_size``.
        """
        expected = (self.in_channels, self.input_size, self.input_size)
        if x.shape[1:] != expected:
            raise UserError(
                f'Expected inputs of shape (batch, {", ".join(map(str, expected))}), got '
                f'{tuple(x.shape)}. The denoiser has in_channels={expected[0]} and '
                f'input_size={expected[1]}; the size of a latent is an eighth of the image size.'
            )
        if self.training and self.use_cfg_embedding:
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
        """Predicts with classifier-free guidance: ``uncond + cfg_scale * (cond - uncond)``.

        Note:
            As in DiT, guidance is applied to the first three channels of the noise. The other
            channels and the variance are those of the conditional prediction.

        Args:
            x, timesteps, labels: As in :meth:`forward`.
            cfg_scale: Guidance scale; 1 means no guidance.

        Returns:
            As :meth:`forward`.

        Raises:
            UserError: As :meth:`forward` and :meth:`check_guidance`.
        """
        self.check_guidance(cfg_scale)
        if cfg_scale == 1:
            return self(x, timesteps, labels)
        null_labels = torch.full_like(labels, self.num_classes)
        both = self(x.repeat(2, 1, 1, 1), timesteps.repeat(2), torch.cat([labels, null_labels]))
        conditional, unconditional = both.chunk(2)
        guided = min(GUIDED_CHANNELS, self.in_channels)
        noise = torch.lerp(unconditional[:, :guided], conditional[:, :guided], cfg_scale)
        return torch.cat([noise, conditional[:, guided:]], dim=1)
