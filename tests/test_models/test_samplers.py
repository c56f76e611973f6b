"""The samplers of diffusers with our settings."""

import itertools

import pytest
import torch
from torch.testing import assert_close

from mmwf.models.diffusion.samplers import SamplerSettings, build_sampler, run_sampler


@pytest.mark.parametrize('sampler', ['ddpm', 'ddim'])
@pytest.mark.parametrize('num_steps', [25, 50, 250, 1000])
def test_sampling_starts_at_the_last_time_step_of_training(sampler, num_steps):
    scheduler = build_sampler(sampler)
    scheduler.set_timesteps(num_steps)
    assert scheduler.timesteps[0] == 999
    assert len(scheduler.timesteps) == num_steps


@pytest.mark.parametrize(('sampler', 'num_steps'), [('ddpm', 250), ('ddpm', 37), ('ddim', 500)])
def test_with_the_ideal_denoiser_samples_have_the_distribution_of_the_data(sampler, num_steps):
    """For normally distributed pixels the optimal prediction has a closed form; with it, DDPM is
    exact for any number of steps, and DDIM for many."""
    mean, std = 0.5, 0.2
    scheduler = build_sampler(sampler)
    scheduler.set_timesteps(num_steps)
    previous = dict(itertools.pairwise(scheduler.timesteps.tolist()))
    alphas_cumprod = scheduler.alphas_cumprod.double()

    def denoise(x, timesteps):
        t = timesteps[0].item()
        abar = alphas_cumprod[t]
        marginal = abar * std**2 + 1 - abar  # variance of x_t
        noise = (1 - abar).sqrt() * (x - abar.sqrt() * mean) / marginal
        weight = torch.tensor(0.0)
        if t in previous:
            abar_prev = alphas_cumprod[previous[t]]
            beta = 1 - abar / abar_prev
            smallest = beta * (1 - abar_prev) / (1 - abar)
            # Plus the variance of x_0 given x_t, times the squared coefficient of x_0.
            coef_start = abar_prev.sqrt() * beta / (1 - abar)
            variance = smallest + coef_start**2 * std**2 * (1 - abar) / marginal
            weight = (variance / smallest).log() / (beta / smallest).log()
        return torch.cat([noise, (2 * weight - 1).expand_as(x)], dim=1).float()

    settings = SamplerSettings(sampler, num_steps)
    x = run_sampler(denoise, (1, 16, 16), range(16), settings, clip_sample=False, device='cpu')
    assert x.mean().item() == pytest.approx(mean, abs=0.015)
    assert x.std().item() == pytest.approx(std, rel=0.04)


def test_ddim_uses_the_noise_that_matches_the_clipped_image():
    abar = build_sampler('ddim').alphas_cumprod
    seen = []

    def denoise(x, timesteps):
        seen.append((x, abar[timesteps[0]]))
        noise = (x - seen[-1][1].sqrt() * 5) / (1 - seen[-1][1]).sqrt()  # so that x_0 is 5
        return torch.cat([noise, x], dim=1)

    settings = SamplerSettings('ddim', num_steps=2)
    x = run_sampler(denoise, (1, 4, 4), [0], settings, clip_sample=True, device='cpu')
    (first, abar1), (second, abar2) = seen
    noise = (first - abar1.sqrt()) / (1 - abar1).sqrt()
    assert_close(second, abar2.sqrt() + (1 - abar2).sqrt() * noise, rtol=1e-4, atol=1e-5)
    assert_close(x, torch.ones(1, 1, 4, 4))


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(sampler='euler'), 'ddpm'),
        (dict(num_steps=1), r'\[2, 1000\], got 1'),
        (dict(sampler='ddim', num_steps=30), 'divide 1000.*got 30'),
        (dict(cfg_scale=0.5), 'cfg_scale >= 1, got 0.5'),
        (dict(cfg_scale=float('nan')), 'cfg_scale >= 1, got nan'),
        (dict(seed=-1), 'seed >= 0, got -1'),
    ],
)
def test_a_wrong_setting_is_named(settings, message):
    with pytest.raises(ValueError, match=message):
        SamplerSettings(**settings)
