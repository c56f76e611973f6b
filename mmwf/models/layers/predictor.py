"""What all weight predictors share."""

import torch
from torch import Tensor, nn

from mmwf import ops


class WeightPredictor(nn.Module):
    """Maps the tokens of an image to the weight update of that image, and does nothing else.

    A new strategy is a subclass with a :meth:`predict`, and one entry in the dict of its family
    (``LINEAR_PREDICTORS`` or ``DWCONV_PREDICTORS``).

    Prediction and normalisation run in the precision of the parameters (fp32 under autocast), in
    training and in evaluation: in half precision, sums over the tokens overflow.
    """

    #: Dimensions of the update over which its norm is taken (see ``ops.normalize_weight``).
    norm_dims: int | tuple[int, ...]

    def predict(self, x: Tensor) -> Tensor:
        """Maps tokens (B, H, W, C) to updates before normalisation."""
        raise NotImplementedError(f'{type(self).__name__} must implement predict(x).')

    def forward(self, x: Tensor) -> Tensor:
        """Maps tokens (B, H, W, C) to normalised updates, (B, C, D) or (B, C, K, K)."""
        dtype = next(self.parameters()).dtype
        with torch.autocast(x.device.type, enabled=False):
            return ops.normalize_weight(self.predict(x.to(dtype)), self.norm_dims)


def get_predictor(name: str, known: dict[str, type[WeightPredictor]]) -> type[WeightPredictor]:
    """Looks a predictor up by name.

    Raises:
        ValueError: If the name is not known; the message lists those that are.
    """
    if name not in known:
        raise ValueError(f'Expected a predictor out of {sorted(known)}, got {name!r}.')
    return known[name]
