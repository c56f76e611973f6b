"""The steps of mmcv's SyncBatchNorm on one device: B samples, C channels, S positions.

mmcv exchanges the statistics between devices; here they are computed in float32.
"""

from torch import Tensor


def _channels(statistic: Tensor) -> Tensor:
    return statistic.float()[:, None]


def sync_bn_forward_mean(input, mean) -> None:
    """Fills ``mean``, (C,), with the means of (B, C, S)."""
    mean.copy_(input.float().mean((0, 2)))


def sync_bn_forward_var(input, mean, var) -> None:
    """Fills ``var``, (C,), with the mean squared distances to ``mean``."""
    var.copy_((input.float() - _channels(mean)).square().mean((0, 2)))


def sync_bn_forward_output(
    input,
    mean,
    var,
    weight,
    bias,
    running_mean,
    running_var,
    norm,
    std,
    output,
    eps,
    momentum,
    group_size,
) -> None:
    """Normalizes, scales and shifts; updates the running statistics.

    Args:
        input: (B, C, S).
        mean: (C,).
        var: (C,), biased.
        weight: (C,) or None.
        bias: (C,) or None.
        running_mean: (C,), updated, or None.
        running_var: (C,), updated with the unbiased variance, or None.
        norm: Filled with the normalized input, (B, C, S).
        std: Filled with the standard deviation, (C,).
        output: Filled, (B, C, S).
        eps: Added to the variance.
        momentum: Share of the new statistics.
        group_size: Number of devices with as many samples.
    """
    std.copy_((var + eps).sqrt())
    norm.copy_((input.float() - _channels(mean)) / _channels(std))
    output.copy_(norm if weight is None else norm * _channels(weight) + _channels(bias))
    if running_mean is not None:
        count = input.shape[0] * input.shape[2] * group_size
        unbiased = var * count / (count - 1) if count > 1 else var
        for running, new in ((running_mean, mean), (running_var, unbiased)):
            running.copy_(momentum * new + (1 - momentum) * running)


def sync_bn_backward_param(grad_output, norm, grad_weight, grad_bias) -> None:
    """Fills the gradients of weight and bias, (C,)."""
    grad_weight.copy_((grad_output.float() * norm).sum((0, 2)))
    grad_bias.copy_(grad_output.float().sum((0, 2)))


def sync_bn_backward_data(
    grad_output, weight, grad_weight, grad_bias, norm, std, grad_input
) -> None:
    """Fills the gradient of the input, (B, C, S)."""
    count = grad_output.shape[0] * grad_output.shape[2]
    of_statistics = (_channels(grad_weight) * norm + _channels(grad_bias)) / count
    grad_input.copy_(_channels(weight / std) * (grad_output.float() - of_statistics))
