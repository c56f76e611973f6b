"""The WeightFormer backbone.

Shapes: B images, H x W tokens (N = H W), C width. Inside the network tokens are (B, H, W, C).
"""

import re
from collections.abc import Iterable, Sequence
from functools import partial

import torch
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmwf.checkpoints import is_pretrained, load_pretrained_backbone
from mmwf.errors import did_you_mean

from ..arguments import MIN_EPS, check_images, check_number, check_sizes
from ..layers import (
    DWConv2d,
    DynamicBlock,
    DynamicDWConv2d,
    DynamicLinear,
    Mlp,
    PatchEmbed,
    StaticBlock,
)

OUT_TYPES = ('featmap', 'avg_featmap', 'raw')
DYNAMIC_LAYERS = ('fc1', 'fc2', 'dwconv')


def _init_linear(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class Blocks(nn.ModuleList):
    """Blocks that are applied one after the other."""

    def forward(self, x: Tensor, out_indices: Sequence[int], with_cp: bool) -> list[Tensor]:
        """Applies the blocks.

        Args:
            x: Tokens, (B, H, W, C).
            out_indices: Indices of the blocks whose outputs are returned.
            with_cp: Whether to use gradient checkpointing.

        Returns:
            The outputs of these blocks, each (B, H, W, C).
        """
        outs = []
        for i, block in enumerate(self):
            if with_cp and x.requires_grad:
                x = checkpoint(block, x, use_reentrant=False)
            else:
                x = block(x)
            if i in out_indices:
                outs.append(x)
        return outs


@MODELS.register_module(force=True)  # replaces the one of mmwf.placeholders
class WeightFormer(BaseModule):
    """A vision backbone without attention (arXiv 2605.01711, section 5 and figure 4).

    A patch embedding, then blocks of a 3 x 3 depthwise convolution and an MLP. In some blocks,
    layers predict their weights from the whole image, which makes the receptive field global at a
    cost linear in the number of tokens. There is no position embedding and no class token, so any
    height and width is accepted.

    Args:
        arch: ``'tiny'``, ``'small'``, ``'base'`` (short ``'t'``, ``'s'``, ``'b'``), or a dict with
            ``embed_dims``, ``depth``, ``mlp_ratio`` and optionally ``drop_path_rate`` (default 0).
            Base is small trained at 448 x 448.
        in_channels: Channels of the image.
        patch_size: Height and width of a patch in pixels, the stride of the feature map.
        out_indices: Indices of the blocks whose outputs are returned, in increasing order; negative
            ones count from the end.
        out_type: ``'featmap'`` (B, C, H, W), ``'avg_featmap'`` (B, C), the mean over all tokens, or
            ``'raw'`` (B, N, C).
        dynamic_blocks: Which blocks have dynamic layers: ``'every-third'`` (1, 4, 7, ...),
            ``'all'``, ``'none'`` or None (the paper's static baseline), or a list of indices.
        dynamic_layers: Which layers of these blocks are dynamic, any of ``'fc1'``, ``'fc2'``,
            ``'dwconv'``.
        linear_predictor: How a dynamic linear layer predicts its weight, one of
            ``LINEAR_PREDICTORS``.
        dwconv_predictor: How a dynamic convolution predicts its kernel, one of
            ``DWCONV_PREDICTORS``.
        drop_rate: Dropout probability in the MLPs.
        drop_path_rate: Stochastic depth rate, increasing linearly from 0 at the first block to this
            value at the last. By default that of ``arch``.
        final_norm: Whether to normalise the output of the last block. Outputs of earlier blocks are
            never normalised.
        norm_eps: Epsilon of all LayerNorms.
        frozen_stages: -1 freezes nothing, 0 the patch embedding and the first norm, k > 0 also the
            first k blocks.
        with_cp: Whether to trade compute for memory by gradient checkpointing of the blocks.
        compile: Whether to compile the blocks with ``torch.compile`` (:meth:`compile_blocks`).
        init_cfg: As in MMEngine. ``dict(type='Pretrained', checkpoint=FILE)`` loads released
            weights as well as checkpoints of this project. By default initialised as in the
            released code, linear weights from a truncated normal distribution with std 0.02.

    Raises:
        ValueError: If an argument is not one of the above values or is out of range.
    """

    arch_zoo = {
        'tiny': dict(embed_dims=192, depth=17, mlp_ratio=4, drop_path_rate=0.0),
        'small': dict(embed_dims=384, depth=17, mlp_ratio=4, drop_path_rate=0.2),
        'base': dict(embed_dims=384, depth=17, mlp_ratio=4, drop_path_rate=0.2),
    }
    arch_aliases = {'t': 'tiny', 's': 'small', 'b': 'base'}

    def __init__(
        self,
        arch: str | dict = 'tiny',
        in_channels: int = 3,
        patch_size: int = 16,
        out_indices: int | Sequence[int] = -1,
        out_type: str = 'featmap',
        dynamic_blocks: str | Sequence[int] | None = 'every-third',
        dynamic_layers: Sequence[str] = ('fc1', 'dwconv'),
        linear_predictor: str = 'bilateral',
        dwconv_predictor: str = 'adaptive',
        drop_rate: float = 0.0,
        drop_path_rate: float | None = None,
        final_norm: bool = True,
        norm_eps: float = 1e-6,
        frozen_stages: int = -1,
        with_cp: bool = False,
        compile: bool = False,
        init_cfg: dict | list | None = None,
    ):
        super().__init__(init_cfg)
        arch = self._parse_arch(arch)
        check_sizes(in_channels=in_channels, patch_size=patch_size)
        check_number('norm_eps', norm_eps, low=MIN_EPS)
        self.in_channels = in_channels
        self.embed_dims, self.depth = arch['embed_dims'], arch['depth']
        self.patch_size = patch_size
        self.out_indices = self._parse_out_indices(out_indices)
        if out_type not in OUT_TYPES:
            raise ValueError(f'Expected out_type to be one of {OUT_TYPES}, got {out_type!r}.')
        self.out_type = out_type
        self.dynamic_blocks = self._parse_dynamic_blocks(dynamic_blocks)
        is_list = isinstance(dynamic_layers, Iterable) and not isinstance(dynamic_layers, str)
        if not is_list or any(layer not in DYNAMIC_LAYERS for layer in dynamic_layers):
            raise ValueError(
                f'Expected dynamic_layers to be a list of names in {DYNAMIC_LAYERS}, '
                f'got {dynamic_layers!r}.'
            )
        if not isinstance(frozen_stages, int) or not -1 <= frozen_stages <= self.depth:
            raise ValueError(
                f'Expected frozen_stages in [-1, {self.depth}] (the depth), got {frozen_stages}.'
            )
        if drop_path_rate is None:
            drop_path_rate = arch['drop_path_rate']
        check_number('drop_rate', drop_rate, high=1)
        check_number('drop_path_rate', drop_path_rate, high=1)
        self.frozen_stages = frozen_stages
        self.with_cp = with_cp

        width, hidden = self.embed_dims, int(self.embed_dims * arch['mlp_ratio'])
        layer_norm = partial(nn.LayerNorm, width, eps=norm_eps)
        dynamic_linear = partial(DynamicLinear, predictor=linear_predictor)
        dynamic_dwconv = partial(DynamicDWConv2d, predictor=dwconv_predictor)

        def build_block(dynamic: bool, drop_path: float) -> nn.Module:
            layers = dynamic_layers if dynamic else ()
            fc1 = (dynamic_linear if 'fc1' in layers else nn.Linear)(width, hidden)
            fc2 = (dynamic_linear if 'fc2' in layers else nn.Linear)(hidden, width)
            dwconv = (dynamic_dwconv if 'dwconv' in layers else DWConv2d)(width)
            mlp = Mlp(fc1, fc2, drop_rate)
            if dynamic:
                return DynamicBlock(layer_norm(), dwconv, layer_norm(), mlp, drop_path)
            return StaticBlock(dwconv, layer_norm(), mlp, drop_path)

        self.patch_embed = PatchEmbed(in_channels, width, patch_size)
        self.init_norm = layer_norm()
        # On the CPU even if the model is built under another default device, such as 'meta'.
        drop_path_rates = torch.linspace(0, drop_path_rate, self.depth, device='cpu').tolist()
        self.blocks = Blocks(
            build_block(i in self.dynamic_blocks, rate) for i, rate in enumerate(drop_path_rates)
        )
        self._compiled_shape = None  # () if nothing has been compiled yet
        if compile:
            self.compile_blocks()
        self.norm = layer_norm() if final_norm else nn.Identity()
        self.apply(_init_linear)
        self._freeze()

    def _parse_arch(self, arch: str | dict) -> dict:
        if isinstance(arch, str):
            name = self.arch_aliases.get(arch.lower(), arch.lower())
            if name not in self.arch_zoo:
                raise ValueError(
                    f'Expected arch to be one of {sorted(self.arch_zoo)} or a dict, got {arch!r}.'
                    + did_you_mean(arch, self.arch_zoo)
                )
            return self.arch_zoo[name]
        expected = {'embed_dims', 'depth', 'mlp_ratio'}
        is_dict = isinstance(arch, dict)
        if not is_dict or not expected <= set(arch) <= expected | {'drop_path_rate'}:
            raise ValueError(
                f'Expected arch with keys {sorted(expected)} and optionally drop_path_rate, '
                f'got {sorted(map(str, arch)) if is_dict else arch!r}.'
            )
        check_sizes(embed_dims=arch['embed_dims'], depth=arch['depth'])
        check_number('mlp_ratio', arch['mlp_ratio'], low=1 / arch['embed_dims'])
        return dict({'drop_path_rate': 0.0}, **arch)

    def _parse_block_index(self, index: int, name: str) -> int:
        if not isinstance(index, int) or not -self.depth <= index < self.depth:
            raise ValueError(
                f'Expected {name} in [{-self.depth}, {self.depth - 1}] (the depth is '
                f'{self.depth}), got {index!r}.'
            )
        return index % self.depth

    def _parse_out_indices(self, out_indices: int | Sequence[int]) -> tuple[int, ...]:
        indices = out_indices if isinstance(out_indices, Iterable) else [out_indices]
        indices = tuple(self._parse_block_index(i, 'out_indices') for i in indices)
        if not indices or list(indices) != sorted(set(indices)):
            raise ValueError(f'Expected increasing out_indices, got {out_indices}.')
        return indices

    def _parse_dynamic_blocks(self, blocks: str | Sequence[int] | None) -> tuple[int, ...]:
        named = {
            'every-third': range(1, self.depth, 3),
            'all': range(self.depth),
            'none': (),
            None: (),
        }
        if blocks is None or isinstance(blocks, str):
            if blocks not in named:
                raise ValueError(
                    "Expected dynamic_blocks to be 'every-third', 'all', 'none' or a list of "
                    f'block indices, got {blocks!r}.'
                )
            return tuple(named[blocks])
        if not isinstance(blocks, Iterable):
            raise ValueError(f'Expected dynamic_blocks to be a name or a list, got {blocks!r}.')
        return tuple(sorted({self._parse_block_index(i, 'dynamic_blocks') for i in blocks}))

    def init_weights(self) -> None:
        """Applies ``init_cfg``; pretrained weights must match the model (``mmwf.checkpoints``)."""
        if is_pretrained(self.init_cfg):
            load_pretrained_backbone(
                self, self.init_cfg['checkpoint'], prefix=self.init_cfg.get('prefix')
            )
            self._is_init = True
        else:
            super().init_weights()

    @property
    def is_compiled(self) -> bool:
        """Whether the blocks are compiled, or will be when they run next."""
        return self._compiled_shape is not None

    def compile_blocks(self) -> None:
        """Compiles the blocks when they run next, as the argument ``compile``.

        The first shape gets a program of its own, the fastest one; another program serves all other
        shapes. If these include batches of a single image and of several, or token grids below
        4 x 4, there is one more for each case. Counted with torch 2.11; torch 2.6 compiles more.
        """
        self._compiled_shape = ()
        self.blocks.compile()

    def _frozen_modules(self) -> list[nn.Module]:
        if self.frozen_stages < 0:
            return []
        modules = [self.patch_embed, self.init_norm, *self.blocks[: self.frozen_stages]]
        return modules + [self.norm] if self.frozen_stages == self.depth else modules

    def _freeze(self) -> None:
        for module in self._frozen_modules():
            module.eval()
            module.requires_grad_(False)

    def train(self, mode: bool = True):
        """Sets training mode; frozen stages stay in evaluation mode."""
        super().train(mode)
        self._freeze()
        return self

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Computes the features of a batch of images.

        Args:
            x: Images, (B, in_channels, height, width), of any size.

        Returns:
            For each of ``out_indices``, the features in the shape given by ``out_type``, with
            H = ceil(height / patch_size) and W = ceil(width / patch_size). A number that is not
            finite spoils only the features of its own image.

        Raises:
            ValueError: If these are not images with ``in_channels`` channels, or there are none.
        """
        check_images(x, self.in_channels)
        x = self.init_norm(self.patch_embed(x))  # (B, H, W, C)
        if self.is_compiled:
            self._compiled_shape = self._compiled_shape or x.shape
            if x.shape != self._compiled_shape:
                torch._dynamo.maybe_mark_dynamic(x, (0, 1, 2))
        outs = self.blocks(x, self.out_indices, self.with_cp)
        if self.out_indices[-1] == self.depth - 1:
            outs[-1] = self.norm(outs[-1])
        return tuple(map(self._format, outs))

    def _format(self, x: Tensor) -> Tensor:
        if self.out_type == 'featmap':
            return x.permute(0, 3, 1, 2).contiguous()  # (B, C, H, W)
        if self.out_type == 'avg_featmap':
            return x.mean(dim=(1, 2))  # (B, C)
        return x.flatten(1, 2)  # (B, N, C)

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Returns the layer index of a parameter, for layer-wise learning-rate decay.

        Args:
            param_name: Full name of the parameter.
            prefix: Prefix of the backbone's parameters, such as ``'backbone.'``.

        Returns:
            The layer index and the number of layers. The patch embedding and the first norm are
            layer 0, block i is layer i + 1, and the last norm and everything outside the backbone
            are the last layer.

        Raises:
            ValueError: If the name starts with ``prefix`` but is not a parameter of this backbone.
        """
        num_layers = self.depth + 2
        if not param_name.startswith(prefix):
            return num_layers - 1, num_layers
        name = param_name[len(prefix) :]
        if name.startswith(('patch_embed.', 'init_norm.')):
            return 0, num_layers
        if name.startswith('norm.'):
            return num_layers - 1, num_layers
        match = re.match(r'blocks\.(\d+)\.', name)
        if match and int(match[1]) < self.depth:
            return int(match[1]) + 1, num_layers
        raise ValueError(
            f'{param_name!r} is not a parameter of this WeightFormer: expected '
            f'{prefix}patch_embed.*, {prefix}init_norm.*, {prefix}blocks.0 to {self.depth - 1}.* '
            f'or {prefix}norm.*.'
        )
