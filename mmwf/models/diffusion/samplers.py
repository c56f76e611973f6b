"""Sampling images from noise with the samplers of diffusers."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mmwf.errors import UserError

from .noise_schedule import BETAS, NUM_TIMESTEPS, build_noise_schedule

SAMPLERS = ('ddpm', 'ddim')


@dataclass
class SamplerSettings:
    """Settings of a sampler.

    Attributes:
        sampler: ``'ddpm'``, with the learned variance, or ``'ddim'``, deterministic (eta 0).
        num_steps: Number of sampling steps, evenly spaced over the 1000 time steps of training.
        cfg_scale: Scale of classifier-free guidance; 1 means no guidance.
        seed: Random seed; together with the index of a sample, it determines the noise.

    Raises:
        UserError: If a setting is out of range.
    """

    sampler: str = 'ddpm'
    num_steps: int = 250
    cfg_scale: float = 1.0
    seed: int = 0

    def __post_init__(self):
        if self.sampler not in SAMPLERS:
            raise UserError(f'Expected sampler to be one of {SAMPLERS}, got {self.sampler!r}.')
        if not 2 <= self.num_steps <= NUM_TIMESTEPS:
            raise UserError(f'Expected num_steps in [2, {NUM_TIMESTEPS}], got {self.num_steps}.')
        if self.sampler == 'ddim' and NUM_TIMESTEPS % self.num_steps:
            raise UserError(
                f'Expected num_steps to divide {NUM_TIMESTEPS} for ddim (such as 25, 50, 100, '
                f'250), got {self.num_steps}.'
            )
        if not 1 <= self.cfg_scale < math.inf:
            raise UserError(f'Expected cfg_scale >= 1, got {self.cfg_scale}.')
        if self.seed < 0:
            raise UserError(f'Expected seed >= 0, got {self.seed}.')


def build_sampler(name: str, clip_sample: bool = False):
    """Builds diffusers' sampler for the noise schedule of training.

    Sampling starts at the last time step of training, 999.

    Args:
        name: One of ``SAMPLERS``.
        clip_sample: Whether to clip the predicted x_0 to [-1, 1]; for pixels, not for latents.
    """
    if name == 'ddpm':
        return build_noise_schedule(
            clip_sample=clip_sample,
            variance_type='learned_range',
            timestep_spacing='linspace',  # as in DiT: from 0 to 999
        )
    from diffusers import DDIMScheduler

    return DDIMScheduler(**BETAS, clip_sample=clip_sample, timestep_spacing='trailing')


def make_generators(seed: int, indices: Iterable[int]) -> list[torch.Generator]:
    """Creates a random generator for each sample, seeded by the seed and the sample's index."""
    return [
        torch.Generator().manual_seed(
            int(np.random.SeedSequence((seed, index)).generate_state(1, np.uint64)[0])
        )
        for index in indices
    ]


def run_sampler(
    denoise: Callable[[Tensor, Tensor], Tensor],
    shape: tuple[int, ...],
    indices: Sequence[int],
    settings: SamplerSettings,
    *,
    clip_sample: bool,
    device: torch.device | str,
    progress: Callable[[Iterable], Iterable] = iter,
) -> Tensor:
    """Samples images or latents.

    The noise of a sample is drawn on the CPU from its own generator, so it does not depend on the
    device, the batch or the number of processes.

    Args:
        denoise: Maps noisy images (B, C, S, S) and time steps (B,) to (B, 2 * C, S, S), as
            :meth:`.Denoiser.forward`.
        shape: Shape of a sample, (C, S, S).
        indices: Index of each of B samples.
        settings: Settings of the sampler.
        clip_sample: As in :func:`build_sampler`.
        device: Device of the denoiser.
        progress: Wraps the iterator over sampling steps, such as tqdm.

    Returns:
        The samples, (B, C, S, S).
    """
    generators = make_generators(settings.seed, indices)
    x = torch.stack([torch.randn(shape, generator=generator) for generator in generators])
    x = x.to(device)
    scheduler = build_sampler(settings.sampler, clip_sample)
    scheduler.set_timesteps(settings.num_steps)
    for timestep in progress(scheduler.timesteps):
        out = denoise(x, timestep.to(device).expand(len(x)))
        if settings.sampler == 'ddpm':
            step = scheduler.step(out, timestep, x, generator=generators)
        else:
            # DDIM does not use the variance, and needs the noise that matches the clipped x_0.
            step = scheduler.step(out[:, : shape[0]], timestep, x, use_clipped_model_output=True)
        x = step.prev_sample
    return x
