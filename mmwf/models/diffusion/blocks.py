"""The two blocks of the denoiser: WeightFormer's and, for comparison, DiT's.

Both are conditioned on time step and label by adaLN-Zero (DiT, arXiv 2212.09748, section 3.2).
Tokens are (B, H, W, C).
"""

import torch.nn.functional as F
from torch import Tensor, nn


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Computes ``x * (1 + scale) + shift`` for x (B, H, W, C), shift and scale (B, 1, 1, C)."""
    return x * (1 + scale) + shift


class Modulation(nn.Sequential):
    """Computes the adaLN-Zero shifts, scales and gates from the condition.

    Args:
        embed_dims: C.
        num_outputs: Number of shifts, scales and gates together.
    """

    def __init__(self, embed_dims: int, num_outputs: int):
        super().__init__(nn.SiLU(), nn.Linear(embed_dims, num_outputs * embed_dims))
        self.num_outputs = num_outputs

    def forward(self, condition: Tensor) -> tuple[Tensor, ...]:
        """Maps (B, C) to ``num_outputs`` tensors (B, 1, 1, C)."""
        return super().forward(condition)[:, None, None].chunk(self.num_outputs, dim=-1)


class Attention(nn.Module):
    """Multi-head self-attention.

    Args:
        embed_dims: C.
        num_heads: Number of heads.

    Raises:
        ValueError: If C is not a multiple of ``num_heads``.
    """

    def __init__(self, embed_dims: int, num_heads: int):
        super().__init__()
        if embed_dims % num_heads:
            raise ValueError(
                f'Expected embed_dims to be a multiple of num_heads, got {embed_dims} and '
                f'{num_heads}.'
            )
        self.num_heads = num_heads
        self.qkv = nn.Linear(embed_dims, 3 * embed_dims)
        self.proj = nn.Linear(embed_dims, embed_dims)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, H, W, C) to (B, H, W, C)."""
        qkv = self.qkv(x.flatten(1, 2)).unflatten(-1, (3, self.num_heads, -1))
        out = F.scaled_dot_product_attention(*qkv.permute(2, 0, 3, 1, 4))  # (B, heads, N, C/heads)
        return self.proj(out.transpose(1, 2).reshape(x.shape))


class ModulatedBlock(nn.Module):
    """Base class of the two blocks: norms without affine parameters, the MLP, and the modulation.

    Args:
        embed_dims: C.
        mlp: The MLP.
    """

    def __init__(self, embed_dims: int, mlp: nn.Module):
        super().__init__()
        self.norm1 = nn.LayerNorm(embed_dims, eps=1e-6, elementwise_affine=False)
        self.norm2 = nn.LayerNorm(embed_dims, eps=1e-6, elementwise_affine=False)
        self.mlp = mlp
        self.modulation = Modulation(embed_dims, 6)


class WeightFormerDiTBlock(ModulatedBlock):
    """WeightFormer's block: the token mixer is a depthwise convolution.

    Note:
        The normalised tokens *replace* the residual stream, as in the dynamic block of the
        backbone, but here in every block. The released weights require it.

    Args:
        embed_dims: C.
        dwconv: Depthwise convolution.
        mlp: The MLP.
    """

    def __init__(self, embed_dims: int, dwconv: nn.Module, mlp: nn.Module):
        super().__init__(embed_dims, mlp)
        self.dwconv = dwconv

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Maps tokens (B, H, W, C) and the condition (B, C) to tokens (B, H, W, C)."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(condition)
        x = self.norm1(x)
        x = x + gate1 * self.dwconv(modulate(x, shift1, scale1))
        return x + gate2 * self.mlp(modulate(self.norm2(x), shift2, scale2))


class DiTBlock(ModulatedBlock):
    """DiT's block: the token mixer is self-attention.

    Args:
        embed_dims: C.
        attn: Self-attention.
        mlp: The MLP.
    """

    def __init__(self, embed_dims: int, attn: nn.Module, mlp: nn.Module):
        super().__init__(embed_dims, mlp)
        self.attn = attn

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Maps tokens (B, H, W, C) and the condition (B, C) to tokens (B, H, W, C)."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(condition)
        x = x + gate1 * self.attn(modulate(self.norm1(x), shift1, scale1))
        return x + gate2 * self.mlp(modulate(self.norm2(x), shift2, scale2))
