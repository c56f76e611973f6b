"""Focal losses, from logits (sigmoid) and from probabilities (softmax).

N samples, C classes. A target of C means "none of the classes"; for the softmax loss, a negative
target means "ignore".
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ._common import evaluate, gradients

#: Keeps logarithms finite.
_TINY = torch.finfo(torch.float32).tiny


def _class_weight(weight: Tensor, target: Tensor) -> Tensor:
    """Weight of each sample's class, (N,); 1 for samples of no class."""
    inside = (target >= 0) & (target < len(weight))
    return torch.where(inside, weight[target.clamp(0, len(weight) - 1)], weight.new_ones(()))


def _sigmoid_loss(logits, target, weight, gamma, alpha):
    positive = target[:, None] == torch.arange(logits.shape[1], device=target.device)
    p = logits.sigmoid()
    loss = torch.where(
        positive,
        -alpha * (1 - p) ** gamma * F.logsigmoid(logits),
        -(1 - alpha) * p**gamma * F.logsigmoid(-logits),
    )
    return loss * _class_weight(weight, target)[:, None] if weight.numel() else loss


def sigmoid_focal_loss_forward(input, target, weight, output, gamma, alpha) -> None:
    """``-alpha_t (1 - p_t)^gamma log p_t`` for each sample and class.

    Args:
        input: Logits, (N, C).
        target: (N,).
        weight: (C,), of the sample's class, or empty.
        output: Filled, (N, C).
        gamma: Exponent.
        alpha: Weight of positives; negatives have ``1 - alpha``.
    """
    output.copy_(evaluate(lambda x, w: _sigmoid_loss(x, target, w, gamma, alpha), input, weight))


def sigmoid_focal_loss_backward(input, target, weight, grad_input, gamma, alpha) -> None:
    """Fills ``grad_input``, (N, C), with the derivative of each loss by its logit."""
    grads = gradients(
        lambda x: _sigmoid_loss(x, target, weight.to(x), gamma, alpha),
        [input],
        torch.ones_like(input),
    )
    grad_input.copy_(grads[0])


def _of_target(probabilities, target):
    """Probability of each sample's target, (N,); 1 where the target is negative."""
    picked = probabilities.gather(1, target.clamp(min=0)[:, None])[:, 0]
    return torch.where(target >= 0, picked, 1.0)


def softmax_focal_loss_forward(input, target, weight, output, gamma, alpha) -> None:
    """``-alpha (1 - p)^gamma log p`` of the target's probability.

    Args:
        input: Probabilities, (N, C).
        target: (N,).
        weight: (C,), of the sample's class, or empty.
        output: Filled, (N,).
        gamma: Exponent.
        alpha: Weight of all samples.
    """

    def loss(probabilities, weight):
        p = _of_target(probabilities, target)
        loss = -alpha * (1 - p) ** gamma * p.clamp(min=_TINY).log()
        return loss * _class_weight(weight, target) if weight.numel() else loss

    output.copy_(evaluate(loss, input, weight))


def softmax_focal_loss_backward(input, target, weight, buff, grad_input, gamma, alpha) -> None:
    """Derivative of the loss by the logits, ``dL/dp p (1[c = t] - p_c)``.

    Args:
        input: Probabilities, (N, C).
        target: (N,).
        weight: (C,) or empty.
        buff: Filled with ``p dL/dp``, (N,).
        grad_input: Filled, (N, C).
        gamma: Exponent.
        alpha: Weight of all samples.
    """

    def by_logits(probabilities, weight):
        p = _of_target(probabilities, target)
        log_p = p.clamp(min=_TINY).log()
        slope = gamma * p * log_p / (1 - p).clamp(min=_TINY)  # 0 / tiny where p is 1
        factor = alpha * (1 - p) ** gamma * (slope - 1)
        if weight.numel():
            factor = factor * _class_weight(weight, target)
        factor = torch.where(target >= 0, factor, 0.0)
        buff.copy_(factor)
        is_target = target[:, None] == torch.arange(probabilities.shape[1], device=target.device)
        return factor[:, None] * (is_target.to(p) - probabilities)

    grad_input.copy_(evaluate(by_logits, input, weight))
