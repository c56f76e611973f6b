"""The loss of a learned variance (Improved DDPM, arXiv 2102.09672, section 3.1).

Shapes: B images of C channels, T time steps. x_0 is an image, x_t the image with the noise of step
t (from 0), and abar_t the cumulative product of the alphas.
"""

import math

import torch
from torch import Tensor


def _at(values: Tensor, timesteps: Tensor) -> Tensor:
    """Takes values (T,) at (B,) time steps: (B, 1, 1, 1), in fp32."""
    return values[timesteps].float()[:, None, None, None]


def posterior(x_start: Tensor, x_t: Tensor, timesteps: Tensor, betas: Tensor) -> tuple:
    """Computes mean and log variance of q(x_{t-1} | x_t, x_0) (DDPM, eq. 6 and 7).

    Args:
        x_start: x_0, (B, C, S, S).
        x_t: (B, C, S, S).
        timesteps: t, (B,).
        betas: (T,), in float64.

    Returns:
        The mean (B, C, S, S) and the logarithm of the variance (B, 1, 1, 1). The latter is that of
        step 1 at step 0, where the variance itself is zero.
    """
    abar = torch.cumprod(1 - betas, dim=0)
    abar_before = torch.cat([torch.ones_like(abar[:1]), abar[:-1]])
    of_start = betas * abar_before.sqrt() / (1 - abar)
    of_noisy = (1 - betas).sqrt() * (1 - abar_before) / (1 - abar)
    mean = _at(of_start, timesteps) * x_start + _at(of_noisy, timesteps) * x_t
    log_variance = (betas * (1 - abar_before) / (1 - abar)).log()
    return mean, _at(log_variance, timesteps.clamp(min=1))


def normal_kl(mean1: Tensor, log_variance1: Tensor, mean2: Tensor, log_variance2: Tensor) -> Tensor:
    """Computes KL(N1 || N2) of normal distributions, element by element, in nats."""
    return 0.5 * (
        log_variance2
        - log_variance1
        - 1
        + torch.exp(log_variance1 - log_variance2)
        + (mean1 - mean2) ** 2 * torch.exp(-log_variance2)
    )


def discretized_normal_nll(x: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Computes how unlikely pixels are under a normal distribution, in nats.

    Args:
        x: Pixels, 256 values from -1 to 1. Each stands for the interval up to half the way to its
            neighbours; the outer two reach to infinity.
        mean, log_variance: Of the distribution.

    Returns:
        Minus the logarithm of the probability, element by element.
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
    """Computes the term of each image's time step in the variational bound.

    It is KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t)), and at step 0 the negative log likelihood
    of x_0. Latents count as pixels there, as in DiT.

    Args:
        x_start, x_t, timesteps, betas: As in :func:`posterior`.
        noise: The predicted noise, (B, C, S, S); detach it to train the variance alone.
        variance: Where the variance's logarithm lies between that of the posterior (-1) and that of
            beta_t (1), (B, C, S, S).

    Returns:
        Bits per dimension, (B,).
    """
    true_mean, true_log_variance = posterior(x_start, x_t, timesteps, betas)
    abar = torch.cumprod(1 - betas, dim=0)
    predicted_start = _at(abar.rsqrt(), timesteps) * x_t
    predicted_start = predicted_start - _at((1 / abar - 1).sqrt(), timesteps) * noise
    mean, _ = posterior(predicted_start, x_t, timesteps, betas)
    share = (variance + 1) / 2
    log_variance = share * _at(betas.log(), timesteps) + (1 - share) * true_log_variance
    nats = torch.where(
        (timesteps == 0)[:, None, None, None],
        discretized_normal_nll(x_start, mean, log_variance),
        normal_kl(true_mean, true_log_variance, mean, log_variance),
    )
    return nats.mean(dim=(1, 2, 3)) / math.log(2)
