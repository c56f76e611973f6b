"""Weight updates as a product of two narrow matrices."""

from typing import NamedTuple

import torch
from torch import Tensor


class LowRank(NamedTuple):
    """The update ``left^T right`` of each image, kept as its two factors.

    With a rank R below C and D, the factors are smaller than the update, and its column norms and
    its product with tokens can be computed from them.

    Attributes:
        left: Shared by the images, (R, C).
        right: (B, R, D).
    """

    left: Tensor
    right: Tensor

    def dense(self) -> Tensor:
        """Returns the update, (B, C, D)."""
        # Not matmul, which returns a transposed view; not len, which fixes the batch of a traced or
        # exported program.
        return torch.bmm(self.left.T.expand(self.right.shape[0], -1, -1), self.right)

    def add_to(self, weight: Tensor) -> Tensor:
        """Returns a weight (C, D) plus the update, (B, C, D)."""
        update = self.dense()
        # A trace is recorded with gradients and checked without.
        in_place = not (torch.is_grad_enabled() or torch.jit.is_tracing())
        return update.add_(weight) if in_place else update + weight

    def normalized(self) -> 'LowRank':
        """Divides each column by its norm + 1, as :func:`.normalize_weight` with ``dim=1``.

        The squared norm of a column z of ``right`` after the projection is ``z^T (left left^T) z``.
        """
        # In fp32 at least: squares overflow in fp16.
        dtype = torch.float32 if self.left.dtype.itemsize < 4 else self.left.dtype
        left, right = self.left.to(dtype), self.right.to(dtype)
        squares = (right * ((left @ left.T) @ right)).sum(dim=1, keepdim=True)  # (B, 1, D)
        # Rounding can make a square negative, and the derivative of the root at 0 is infinite.
        norm = squares.clamp_min(torch.finfo(dtype).tiny).sqrt()
        return LowRank(self.left, (right / (norm + 1)).to(self.right.dtype))


def dense(delta: Tensor | LowRank) -> Tensor:
    """Returns a weight update as a tensor, (B, C, D) or (B, C, K, K)."""
    return delta.dense() if isinstance(delta, LowRank) else delta
