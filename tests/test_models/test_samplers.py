"""The samplers of diffusers as they are set up here."""

import itertools

import pytest
import torch
from torch.testing import assert_close

from mmwf.models.diffusion.samplers import SamplerSettings, build_scheduler, run_sampler


@pytest.mark.parametrize('sampler', ['ddpm', 'ddim'])
@pytest.mark.parametrize('num_steps', [25, 50, 250, 1000])
def test_sampling_starts_where_training_ends(sampler, num_steps):
    scheduler = build_scheduler(sampler)
    scheduler.set_timesteps(num_steps)
    assert scheduler.timesteps[0] == 999
    assert len(scheduler.timesteps) == num_steps


@pytest.mark.parametrize(('sampler', 'num_steps'), [('ddpm', 250), ('ddpm', 37), ('ddim', 500)])
def test_with_the_ideal_denoiser_samples_have_the_distribution_of_the_data(sampler, num_steps):
    """For normally distributed pixels the best prediction has a closed form; with it, DDPM is exact
    for any number of steps, and DDIM for many."""
    mean, std = 0.5, 0.2
    scheduler = build_scheduler(sampler)
    scheduler.set_timesteps(num_steps)
    before = dict(itertools.pairwise(scheduler.timesteps.tolist()))
    alphas_cumprod = scheduler.alphas_cumprod.double()

    def denoise(x, timesteps):
        t = timesteps[0].item()
        abar = alphas_cumprod[t]
        marginal = abar * std**2 + 1 - abar  # variance of x_t
        noise = (1 - abar).sqrt() * (x - abar.sqrt() * mean) / marginal
        share = torch.tensor(0.0)
        if t in before:
            abar_before = alphas_cumprod[before[t]]
            beta = 1 - abar / abar_before
            smallest = beta * (1 - abar_before) / (1 - abar)
            # What is not known of x_0, given x_t, adds to it.
            of_start = abar_before.sqrt() * beta / (1 - abar)
            variance = smallest + of_start**2 * std**2 * (1 - abar) / marginal
            share = (variance / smallest).log() / (beta / smallest).log()
        return torch.cat([noise, (2 * share - 1).expand_as(x)], dim=1).float()

    settings = SamplerSettings(sampler, num_steps)
    x = run_sampler(denoise, (1, 16, 16), range(16), settings, clip_sample=False, device='cpu')
    assert x.mean().item() == pytest.approx(mean, abs=0.015)
    assert x.std().item() == pytest.approx(std, rel=0.04)


def test_ddim_takes_the_noise_that_belongs_to_the_clipped_image():
    abar = build_scheduler().alphas_cumprod
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
        (dict(num_steps=1), 'from 2 to 1000, got 1'),
        (dict(sampler='ddim', num_steps=30), 'divide 1000.*got 30'),
        (dict(cfg_scale=0.5), 'cfg_scale of 1 or more'),
        (dict(cfg_scale=float('nan')), 'cfg_scale of 1 or more, got nan'),
        (dict(seed=-1), 'seed of 0 or more'),
    ],
)
def test_a_wrong_setting_is_named(settings, message):
    with pytest.raises(ValueError, match=message):
        SamplerSettings(**settings)
