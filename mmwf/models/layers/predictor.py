"""Base class of the weight predictors."""

import torch
from torch import Tensor, nn

from mmwf import ops


class WeightPredictor(nn.Module):
    """Predicts a weight update for each image from its tokens.

    A new predictor is a subclass that implements :meth:`predict`, and one entry in
    ``LINEAR_PREDICTORS`` or ``DWCONV_PREDICTORS``. Its docstring gives the equation and, as Python
    expressions that the tests compare with the real counts, the number of ``Parameters:`` and the
    ``Multiply-adds:`` per image (matrix products and convolutions, in the order of the equation).
    The expressions may use

        H, W    height and width of the token grid
        N       number of tokens, H W
        M       number of tokens after 2 x 2 average pooling (N / 4 for even H and W)
        C, D    input and output width
        K       kernel size
        R       bottleneck width, ceil(C / 4)

    Prediction and normalisation run in the precision of the parameters (fp32 under autocast), in
    training and in evaluation: in half precision, sums over the tokens overflow.
    """

    #: Dimensions of the update over which its norm is computed (see :func:`.normalize_weight`).
    norm_dims: int | tuple[int, ...]

    def predict(self, x: Tensor) -> Tensor | ops.LowRank:
        """Maps tokens (B, H, W, C) to unnormalised updates, (B, C, D) or (B, C, K, K).

        An update of a linear layer can also be returned as :class:`mmwf.ops.LowRank`, its factors.
        """
        raise NotImplementedError(f'{type(self).__name__} must implement predict(x).')

    def normalize(self, delta: Tensor | ops.LowRank) -> Tensor | ops.LowRank:
        """Bounds the norm of each update by 1; the shape stays the same."""
        return ops.normalize_weight(delta, self.norm_dims)

    def forward(self, x: Tensor) -> Tensor | ops.LowRank:
        """Maps tokens (B, H, W, C) to normalised updates, (B, C, D) or (B, C, K, K), or factors."""
        dtype = next(self.parameters()).dtype
        device_type = 'cpu' if x.is_meta else x.device.type  # autocast does not support meta
        with torch.autocast(device_type, enabled=False):
            return self.normalize(self.predict(x.to(dtype)))


def get_predictor(name: str, known: dict[str, type[WeightPredictor]]) -> type[WeightPredictor]:
    """Looks up a predictor class by name.

    Raises:
        ValueError: If the name is unknown; the message lists the known ones.
    """
    if name not in known:
        raise ValueError(f'Expected predictor to be one of {sorted(known)}, got {name!r}.')
    return known[name]
