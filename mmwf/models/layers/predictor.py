"""What all weight predictors share."""

import torch
from torch import Tensor, nn

from mmwf import ops


class WeightPredictor(nn.Module):
    """Maps the tokens of an image to the weight update of that image, and does nothing else.

    A new strategy is a subclass with a :meth:`predict` and a :meth:`cost`, and one entry in the
    dict of its family (``LINEAR_PREDICTORS`` or ``DWCONV_PREDICTORS``). Its docstring gives the
    equation and, in Python's notation, the number of ``Parameters:`` and the ``Multiply-adds:`` per
    image, which the tests evaluate. There N = H W counts the tokens, M those after pooling over
    2 x 2 (N / 4 for even H and W), C and D are the input and output width, K is the kernel size,
    and R = ceil(C / 4) the width of a bottleneck.

    Prediction and normalisation run in the precision of the parameters (fp32 under autocast), in
    training and in evaluation: in half precision, sums over the tokens overflow.
    """

    #: Dimensions of the update over which its norm is taken (see ``ops.normalize_weight``).
    norm_dims: int | tuple[int, ...]

    def predict(self, x: Tensor) -> Tensor:
        """Maps tokens (B, H, W, C) to updates before normalisation."""
        raise NotImplementedError(f'{type(self).__name__} must implement predict(x).')

    def cost(self, h: int, w: int) -> int:
        """Computes the multiply-adds of :meth:`predict` for one image of h x w tokens.

        Products of matrices and convolutions count, in the order of the paper's formula; pooling
        and activations do not.
        """
        raise NotImplementedError(f'{type(self).__name__} must implement cost(h, w).')

    def normalize(self, delta: Tensor) -> Tensor:
        """Bounds the norm of the updates by 1; same shape."""
        return ops.normalize_weight(delta, self.norm_dims)

    def forward(self, x: Tensor) -> Tensor:
        """Maps tokens (B, H, W, C) to normalised updates, (B, C, D) or (B, C, K, K)."""
        dtype = next(self.parameters()).dtype
        device_type = 'cpu' if x.is_meta else x.device.type  # autocast knows no meta device
        with torch.autocast(device_type, enabled=False):
            return self.normalize(self.predict(x.to(dtype)))


def get_predictor(name: str, known: dict[str, type[WeightPredictor]]) -> type[WeightPredictor]:
    """Looks a predictor up by name.

    Raises:
        ValueError: If the name is not known; the message lists those that are.
    """
    if name not in known:
        raise ValueError(f'Expected a predictor out of {sorted(known)}, got {name!r}.')
    return known[name]
