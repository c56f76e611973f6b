"""Multi-scale deformable attention through mmcv's own fallback in plain PyTorch.

B images, K keys (the pixels of all levels), Q queries, M heads of D channels, L levels, P points.
"""

from torch import Tensor

from ._common import evaluate, gradients


def _attention(shapes: Tensor):
    """The function of values, sampling locations and attention weights for these levels."""
    # Late: mmcv.ops imports mmcv._ext.
    from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch

    sides = shapes.tolist()

    def attend(value, locations, weights):
        return multi_scale_deformable_attn_pytorch(value, sides, locations, weights)

    return attend


def ms_deform_attn_forward(
    value, spatial_shapes, level_start_index, sampling_locations, attention_weights, im2col_step
) -> Tensor:
    """Sums bilinear samples of the values with the attention weights.

    Args:
        value: (B, K, M, D).
        spatial_shapes: (L, 2), height and width of each level.
        level_start_index: (L,), not needed.
        sampling_locations: (B, Q, M, L, P, 2), (x, y) in [0, 1].
        attention_weights: (B, Q, M, L, P).
        im2col_step: Not needed.

    Returns:
        (B, Q, M * D).
    """
    attend = _attention(spatial_shapes)
    return evaluate(attend, value, sampling_locations, attention_weights).to(value.dtype)


def ms_deform_attn_backward(
    value,
    spatial_shapes,
    level_start_index,
    sampling_locations,
    attention_weights,
    grad_output,
    grad_value,
    grad_sampling_loc,
    grad_attn_weight,
    im2col_step,
) -> None:
    """Fills the three gradients; arguments as in :func:`ms_deform_attn_forward`."""
    inputs = [value, sampling_locations, attention_weights]
    grads = gradients(_attention(spatial_shapes), inputs, grad_output)
    for out, grad in zip((grad_value, grad_sampling_loc, grad_attn_weight), grads, strict=True):
        out.copy_(grad)
