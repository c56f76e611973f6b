"""The variational bound that trains the variance (Improved DDPM, arXiv 2102.09672, section 3.1).

Shapes: B images of C channels and S x S pixels, T time steps. x_0 is an image, x_t the noisy image
at time step t (from 0), and abar_t the cumulative product of the alphas (1 - betas).
"""

import math

import torch
from torch import Tensor


def _at(values: Tensor, timesteps: Tensor) -> Tensor:
    """Returns the values (T,) at time steps (B,), as (B, 1, 1, 1) in fp32."""
    return values[timesteps].float()[:, None, None, None]


def posterior(x_start: Tensor, x_t: Tensor, timesteps: Tensor, betas: Tensor) -> tuple:
    """Computes mean and log variance of q(x_{t-1} | x_t, x_0) (DDPM, arXiv 2006.11239, eq. 7).

    Args:
        x_start: x_0, (B, C, S, S).
        x_t: (B, C, S, S).
        timesteps: t, (B,).
        betas: (T,), in float64.

    Returns:
        The mean (B, C, S, S) and the log variance (B, 1, 1, 1). At step 0, where the variance is
        zero, the log variance is that of step 1.
    """
    abar = torch.cumprod(1 - betas, dim=0)
    abar_prev = torch.cat([torch.ones_like(abar[:1]), abar[:-1]])
    coef_start = betas * abar_prev.sqrt() / (1 - abar)
    coef_t = (1 - betas).sqrt() * (1 - abar_prev) / (1 - abar)
    mean = _at(coef_start, timesteps) * x_start + _at(coef_t, timesteps) * x_t
    log_variance = (betas * (1 - abar_prev) / (1 - abar)).log()
    return mean, _at(log_variance, timesteps.clamp(min=1))


def normal_kl(mean1: Tensor, log_variance1: Tensor, mean2: Tensor, log_variance2: Tensor) -> Tensor:
    """Computes the element-wise KL divergence KL(N1 || N2) of normal distributions, in nats."""
    return 0.5 * (
        log_variance2
        - log_variance1
        - 1
        + torch.exp(log_variance1 - log_variance2)
        + (mean1 - mean2) ** 2 * torch.exp(-log_variance2)
    )


def discretized_normal_nll(x: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Computes the element-wise negative log-likelihood of pixels under a normal distribution.

    Args:
        x: Pixels, one of 256 levels from -1 to 1. The likelihood of a level is the probability of
            its bin, which ends halfway to the next level; the outermost bins are unbounded.
        mean: Mean of the distribution.
        log_variance: Log variance of the distribution.

    Returns:
        The negative log-likelihood in nats, shape of ``x``.
    """
    inverse_std = torch.exp(-0.5 * log_variance)
    upper = torch.special.ndtr(inverse_std * (x - mean + 1 / 255))
    lower = torch.special.ndtr(inverse_std * (x - mean - 1 / 255))
    upper = torch.where(x > 0.999, 1.0, upper)
    lower = torch.where(x < -0.999, 0.0, lower)
    return -torch.log((upper - lower).clamp(min=1e-12))


def variational_bound(
    x_start: Tensor,
    x_t: Tensor,
    timesteps: Tensor,
    noise: Tensor,
    variance: Tensor,
    betas: Tensor,
) -> Tensor:
    """Computes the term of the variational bound at each image's time step.

    KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t)), or at step 0 the negative log-likelihood of x_0.
    As in DiT, latents are treated like pixels at step 0.

    Args:
        x_start, x_t, timesteps, betas: As in :func:`posterior`.
        noise: Predicted noise, (B, C, S, S). Detach it to train the variance only.
        variance: Predicted interpolation weight of the log variance, (B, C, S, S): -1 is the log
            variance of the posterior, 1 is log(beta_t).

    Returns:
        The term in bits per dimension, (B,).
    """
    true_mean, true_log_variance = posterior(x_start, x_t, timesteps, betas)
    abar = torch.cumprod(1 - betas, dim=0)
    predicted_start = _at(abar.rsqrt(), timesteps) * x_t
    predicted_start = predicted_start - _at((1 / abar - 1).sqrt(), timesteps) * noise
    mean, _ = posterior(predicted_start, x_t, timesteps, betas)
    weight = (variance + 1) / 2
    log_variance = weight * _at(betas.log(), timesteps) + (1 - weight) * true_log_variance
    nats = torch.where(
        (timesteps == 0)[:, None, None, None],
        discretized_normal_nll(x_start, mean, log_variance),
        normal_kl(true_mean, true_log_variance, mean, log_variance),
    )
    return nats.mean(dim=(1, 2, 3)) / math.log(2)
