"""The variational bound against ``torch.distributions`` and Bayes' rule."""

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence
from torch.testing import assert_close

from mmwf.models.diffusion.noise_schedule import build_noise_schedule
from mmwf.models.diffusion.objective import (
    discretized_normal_nll,
    normal_kl,
    posterior,
    variational_bound,
)

BETAS = build_noise_schedule().betas.double()
ABAR = torch.cumprod(1 - BETAS, dim=0)
STEPS = torch.tensor([1, 2, 100, 500, 999])


def noisy_images(timesteps, channels=2):
    x_start = torch.rand(len(timesteps), channels, 3, 3) * 2 - 1
    noise = torch.randn_like(x_start)
    abar = ABAR[timesteps].float()[:, None, None, None]
    return x_start, noise, abar.sqrt() * x_start + (1 - abar).sqrt() * noise


def test_normal_kl_matches_torch_distributions():
    mean1, mean2 = torch.randn(2, 50)
    log_variance1, log_variance2 = torch.randn(2, 50)
    expected = kl_divergence(
        Normal(mean1, (log_variance1 / 2).exp()), Normal(mean2, (log_variance2 / 2).exp())
    )
    assert_close(normal_kl(mean1, log_variance1, mean2, log_variance2), expected)


def test_the_posterior_follows_from_bayes_rule():
    """The precisions of q(x_{t-1} | x_0) and q(x_t | x_{t-1}) add up."""
    x_start, _, x_t = noisy_images(STEPS)
    beta, abar_prev = (v[:, None, None, None] for v in (BETAS[STEPS], ABAR[STEPS - 1]))
    prior = 1 / (1 - abar_prev)
    likelihood = (1 - beta) / beta
    variance = 1 / (prior + likelihood)
    mean = variance * (prior * abar_prev.sqrt() * x_start + likelihood * x_t / (1 - beta).sqrt())
    actual_mean, log_variance = posterior(x_start, x_t, STEPS, BETAS)
    assert_close(actual_mean, mean.float(), rtol=1e-4, atol=1e-5)
    assert_close(log_variance.exp(), variance.float(), rtol=1e-4, atol=0)


@pytest.mark.parametrize('log_std', [-6.0, -3.0, 0.0])
def test_the_likelihoods_of_all_pixel_levels_sum_to_one(log_std):
    pixels = torch.arange(256.0) / 127.5 - 1
    nll = discretized_normal_nll(pixels, torch.tensor(0.3), torch.tensor(2 * log_std))
    assert_close((-nll).exp().sum(), torch.tensor(1.0))


def test_the_bound_is_zero_for_the_true_noise_and_the_posterior_variance():
    x_start, noise, x_t = noisy_images(STEPS)
    bound = variational_bound(x_start, x_t, STEPS, noise, -torch.ones_like(noise), BETAS)
    assert_close(bound, torch.zeros(len(STEPS)), rtol=0, atol=2e-5)


@pytest.mark.parametrize('weight', [0.5, 1, 2])
def test_the_bound_of_a_variance_has_a_closed_form(weight):
    """With the true mean only the variances differ. Weights above 1 are not clipped."""
    x_start, noise, x_t = noisy_images(STEPS)
    variance = torch.full_like(noise, 2 * weight - 1)
    bound = variational_bound(x_start, x_t, STEPS, noise, variance, BETAS)
    ratio = (1 - ABAR[STEPS - 1]) / (1 - ABAR[STEPS])  # of the posterior variance to beta_t
    ratio = ratio**weight
    expected = 0.5 * (ratio - 1 - ratio.log()) / math.log(2)
    assert_close(bound, expected.float(), rtol=1e-3, atol=2e-5)


def test_the_bound_at_step_zero_is_the_negative_log_likelihood_of_the_pixels():
    timesteps = torch.zeros(1, dtype=torch.long)
    x_start, noise, x_t = noisy_images(timesteps)
    bound = variational_bound(x_start, x_t, timesteps, noise, torch.ones_like(noise), BETAS)
    std = BETAS[0].sqrt().float()
    p = Normal(x_start, std)  # the true noise gives x_0 as the mean
    likelihood = p.cdf(x_start + 1 / 255) - p.cdf(x_start - 1 / 255)
    assert_close(bound, (-likelihood.log2()).mean().view(1), rtol=1e-2, atol=1e-3)
