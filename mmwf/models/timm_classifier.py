"""The backbone with a classifier, and with the methods that timm's models have.

Shapes: B images, H x W tokens, C width.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from .arguments import check_images, check_number
from .backbones import WeightFormer

POOLS = ('avg', '')


class TimmWeightFormer(WeightFormer):
    """WeightFormer with mean pooling and a linear head, for :mod:`mmwf.timm_models`.

    With the same weights it computes the scores of the models of ``configs/classification``. Its
    arguments have the names that timm uses.

    Args:
        arch: As in :class:`WeightFormer`.
        in_chans: Channels of the image.
        num_classes: Number of classes; 0 for none, which gives the pooled features.
        global_pool: ``'avg'``, or ``''`` for feature maps, without classes.
        drop_rate: Dropout probability in front of the head.
        proj_drop_rate: Dropout probability in the MLPs.
        drop_path_rate: Default: that of ``arch``.
        kwargs: More arguments of :class:`WeightFormer`.

    Raises:
        ValueError: If an argument is not one of the above values or is out of range.
    """

    def __init__(
        self,
        arch: str | dict = 'tiny',
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = 'avg',
        drop_rate: float = 0.0,
        proj_drop_rate: float = 0.0,
        drop_path_rate: float | None = None,
        **kwargs,
    ):
        super().__init__(
            arch,
            in_channels=in_chans,
            drop_rate=proj_drop_rate,
            drop_path_rate=drop_path_rate,
            **kwargs,
        )
        check_number('drop_rate', drop_rate, high=1)
        self.in_chans, self.drop_rate = in_chans, drop_rate
        self.num_features = self.head_hidden_size = self.embed_dims
        self.feature_info = [
            dict(num_chs=self.embed_dims, reduction=self.patch_size, module=f'blocks.{i}')
            for i in range(self.depth)
        ]
        self.head_drop = nn.Dropout(drop_rate)
        self.reset_classifier(num_classes, global_pool)

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replaces the head by a new one.

        Args:
            num_classes: Number of classes; 0 for none.
            global_pool: As in the constructor. Default: unchanged.
        """
        pool = self.global_pool if global_pool is None else global_pool
        if pool not in POOLS or (num_classes and not pool):
            raise ValueError(
                f"Expected global_pool to be 'avg', or '' with num_classes=0, got {pool!r} with "
                f'num_classes={num_classes}.'
            )
        self.num_classes, self.global_pool = num_classes, pool
        weight = self.patch_embed.proj.weight
        self.head = nn.Identity()
        if num_classes:
            self.head = nn.Linear(
                self.num_features, num_classes, device=weight.device, dtype=weight.dtype
            )
            nn.init.trunc_normal_(self.head.weight, std=0.02)
            nn.init.zeros_(self.head.bias)

    def get_classifier(self) -> nn.Module:
        """Returns the head."""
        return self.head

    def _format(self, x: Tensor) -> Tensor:
        return x.permute(0, 3, 1, 2)  # (B, C, H, W), a view

    def forward_features(self, x: Tensor) -> Tensor:
        """Computes the feature map, (B, C, H, W), of images, (B, in_chans, height, width)."""
        return super().forward(x)[0]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Computes the scores of the classes.

        Args:
            x: The feature map, (B, C, H, W).
            pre_logits: Whether to return the input of the head instead.

        Returns:
            The scores, (B, num_classes), or the pooled features, (B, C).
        """
        if self.global_pool:
            x = x.permute(0, 2, 3, 1).mean(dim=(1, 2))
        x = self.head_drop(x)
        return x if pre_logits else self.head(x)

    def forward(self, x: Tensor) -> Tensor:
        """Computes the scores, (B, num_classes), of images, (B, in_chans, height, width)."""
        return self.forward_head(self.forward_features(x))

    def _take(self, indices: int | Sequence[int] | None) -> tuple[int, ...]:
        """Returns indices of blocks: all for None, the last ones for a number, as in timm."""
        if indices is None or isinstance(indices, int):
            indices = range(-(self.depth if indices is None else indices), 0)
        return self._parse_out_indices(indices)

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = 'NCHW',
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Computes the outputs of some blocks.

        Args:
            x: Images, (B, in_chans, height, width).
            indices: Indices of the blocks, the number of the last ones, or None for all.
            norm: Whether to normalise them with the last norm.
            stop_early: Whether to stop after the last of these blocks.
            output_fmt: ``'NCHW'`` or ``'NHWC'``.
            intermediates_only: Whether to return only them.

        Returns:
            The outputs, each (B, C, H, W) or (B, H, W, C); without ``intermediates_only``, the
            output of :meth:`forward_features` and them.
        """
        if output_fmt not in ('NCHW', 'NHWC'):
            raise ValueError(f"Expected output_fmt to be 'NCHW' or 'NHWC', got {output_fmt!r}.")
        check_images(x, self.in_channels)
        taken = self._take(indices)
        blocks = self.blocks[: taken[-1] + 1] if stop_early else self.blocks
        x = self.init_norm(self.patch_embed(x))  # (B, H, W, C)
        outs = blocks(x, sorted({*taken, len(blocks) - 1}), self.with_cp)
        x, outs = outs[-1], outs[: len(taken)]
        if norm:
            outs = [self.norm(out) for out in outs]
        if output_fmt == 'NCHW':
            outs = [out.permute(0, 3, 1, 2).contiguous() for out in outs]
        return outs if intermediates_only else (self._format(self.norm(x)), outs)

    def prune_intermediate_layers(
        self,
        indices: int | Sequence[int] = 1,
        prune_norm: bool = False,
        prune_head: bool = True,
    ) -> list[int]:
        """Removes what is not needed for the outputs of some blocks.

        Args:
            indices: As in :meth:`forward_intermediates`.
            prune_norm: Whether to remove the last norm.
            prune_head: Whether to remove the head.

        Returns:
            The indices of these blocks.
        """
        taken = self._take(indices)
        self.blocks = self.blocks[: taken[-1] + 1]
        self.depth, self.out_indices = len(self.blocks), (len(self.blocks) - 1,)
        if self.is_compiled:
            self.compile_blocks()
        if prune_norm:
            self.norm = nn.Identity()
        if prune_head:
            self.reset_classifier(0, '')
        return list(taken)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Trades compute for memory, or not."""
        self.with_cp = enable

    def group_matcher(self, coarse: bool = False) -> dict:
        """Returns patterns of parameter names by layer, for timm's layer decay.

        Args:
            coarse: Has no effect: the blocks are not in stages.
        """
        # Without groups in the patterns but the number of the block: timm converts them to numbers.
        blocks = [(r'^blocks\.(\d+)', None), (r'^norm', (99999,))]
        return dict(stem=r'^patch_embed|^init_norm', blocks=blocks)

    def no_weight_decay(self) -> set[str]:
        """Returns the names of parameters without weight decay beside norms and biases: none."""
        return set()
