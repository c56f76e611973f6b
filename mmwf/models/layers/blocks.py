"""The static and the dynamic block of WeightFormer.

A block receives its layers as arguments and defines only their order. Tokens are (B, H, W, C).
"""

from torch import Tensor, nn

from mmwf import ops

from .basic import DropPath, DWConv2d
from .dynamic_dwconv import DynamicDWConv2d
from .dynamic_linear import DynamicLinear


def _is_plain(module: nn.Module, *types: type) -> bool:
    """Tells whether a module has one of the types, not a subclass, and no hooks."""
    return type(module) in types and not (
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )


class Mlp(nn.Module):
    """Computes ``fc2(gelu(fc1(x)))``, with dropout after the GELU and after fc2.

    With plain layers and no dropout it calls :func:`mmwf.ops.mlp`, which is faster and needs less
    memory. Layers that were replaced or have hooks are called one by one.

    Args:
        fc1: Maps width C to the hidden width.
        fc2: Maps the hidden width back to C.
        drop_rate: Dropout probability.
        approximate: ``'none'`` for the exact GELU, ``'tanh'`` for the approximation used in DiT.
    """

    def __init__(
        self,
        fc1: nn.Module,
        fc2: nn.Module,
        drop_rate: float = 0.0,
        *,
        approximate: str = 'none',
    ):
        super().__init__()
        self.fc1 = fc1
        self.act = nn.GELU(approximate)
        self.fc2 = fc2
        self.drop = nn.Dropout(drop_rate)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, H, W, C) to (B, H, W, C)."""
        if not self._is_plain():
            return self.drop(self.fc2(self.drop(self.act(self.fc1(x)))))
        if isinstance(self.fc1, DynamicLinear):
            weight, delta = self.fc1.weight, self.fc1.predictor(x)
        else:
            weight, delta = self.fc1.weight.T, None
        fc2, approximate = self.fc2, self.act.approximate
        return ops.mlp(
            x, weight, delta, self.fc1.bias, fc2.weight, fc2.bias, approximate=approximate
        )

    def _is_plain(self) -> bool:
        return (
            _is_plain(self.fc1, nn.Linear, DynamicLinear)
            and _is_plain(self.act, nn.GELU)
            and _is_plain(self.fc2, nn.Linear)
            and self.fc1.bias is not None
            and self.fc2.bias is not None
            and _is_plain(self.drop, nn.Dropout)
            and not (self.training and self.drop.p)
        )


class StaticBlock(nn.Module):
    """A block with static weights: a residual depthwise convolution, then a residual MLP.

    With a plain convolution and norm it calls :func:`mmwf.ops.dwconv_norm`. Layers that were
    replaced or have hooks are called one by one.

    Note:
        There is no norm before the convolution, and drop path acts on the MLP branch only. The
        released weights require both.

    Args:
        dwconv: 3 x 3 depthwise convolution.
        norm2: LayerNorm before the MLP.
        mlp: The MLP.
        drop_path_rate: Probability of dropping the MLP branch.
    """

    def __init__(
        self, dwconv: nn.Module, norm2: nn.Module, mlp: nn.Module, drop_path_rate: float = 0.0
    ):
        super().__init__()
        self.dwconv = dwconv
        self.norm2 = norm2
        self.mlp = mlp
        self.drop_path = DropPath(drop_path_rate)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, H, W, C) to (B, H, W, C)."""
        x, normed = self._mix(x)
        return x + self.drop_path(self.mlp(normed))

    def _mix(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the tokens after the convolution, and their norm."""
        conv, norm = self.dwconv, self.norm2
        if not self._is_plain():
            x = x + conv(x)
            return x, norm(x)
        delta = conv.predictor(x) if isinstance(conv, DynamicDWConv2d) else None
        return ops.dwconv_norm(
            x, conv.weight, delta, conv.bias, norm.weight, norm.bias, eps=norm.eps
        )

    def _is_plain(self) -> bool:
        return (
            _is_plain(self.dwconv, DWConv2d, DynamicDWConv2d)
            and _is_plain(self.norm2, nn.LayerNorm)
            and self.norm2.bias is not None
        )


class DynamicBlock(StaticBlock):
    """A :class:`StaticBlock` with a LayerNorm before it, for layers with predicted weights.

    Note:
        The normalised tokens *replace* the residual stream, unlike in the paper's figure. The
        released weights require it.

    Args:
        norm1: LayerNorm on the residual stream.
        dwconv, norm2, mlp, drop_path_rate: As in :class:`StaticBlock`.
    """

    def __init__(
        self,
        norm1: nn.Module,
        dwconv: nn.Module,
        norm2: nn.Module,
        mlp: nn.Module,
        drop_path_rate: float = 0.0,
    ):
        super().__init__(dwconv, norm2, mlp, drop_path_rate)
        self.norm1 = norm1

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, H, W, C) to (B, H, W, C)."""
        return super().forward(self.norm1(x))
