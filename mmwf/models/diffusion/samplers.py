"""From noise to images: the samplers of diffusers, with their settings."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mmwf.errors import UserError

NUM_TIMESTEPS = 1000
SAMPLERS = ('ddpm', 'ddim')


@dataclass
class SamplerSettings:
    """How to sample.

    Attributes:
        sampler: ``'ddpm'``, with the learned variance, or ``'ddim'``, without noise (eta 0).
        num_steps: Number of steps, taken evenly out of the 1000 of training.
        cfg_scale: Strength of classifier-free guidance; 1 is none.
        seed: With the index of a sample, what its noise depends on.

    Raises:
        UserError: If a setting is out of range.
    """

    sampler: str = 'ddpm'
    num_steps: int = 250
    cfg_scale: float = 1.0
    seed: int = 0

    def __post_init__(self):
        if self.sampler not in SAMPLERS:
            raise UserError(f'Expected a sampler out of {SAMPLERS}, got {self.sampler!r}.')
        if not 2 <= self.num_steps <= NUM_TIMESTEPS:
            raise UserError(f'Expected num_steps from 2 to {NUM_TIMESTEPS}, got {self.num_steps}.')
        if self.sampler == 'ddim' and NUM_TIMESTEPS % self.num_steps:
            raise UserError(
                f'Expected num_steps to divide {NUM_TIMESTEPS} for ddim (such as 25, 50, 100, '
                f'250), got {self.num_steps}.'
            )
        if not 1 <= self.cfg_scale < math.inf:
            raise UserError(f'Expected cfg_scale of 1 or more, got {self.cfg_scale}.')
        if self.seed < 0:
            raise UserError(f'Expected a seed of 0 or more, got {self.seed}.')


def build_scheduler(sampler: str = 'ddpm', clip_sample: bool = False):
    """Builds the sampler of diffusers for DiT's linear noise schedule.

    Both start at the last step of training, 999.

    Args:
        sampler: One of ``SAMPLERS``.
        clip_sample: Whether predicted images are clipped to [-1, 1]: for pixels, not for latents.
    """
    from diffusers import DDIMScheduler, DDPMScheduler

    schedule = dict(
        num_train_timesteps=NUM_TIMESTEPS,
        beta_schedule='linear',
        beta_start=1e-4,
        beta_end=0.02,
        clip_sample=clip_sample,
    )
    if sampler == 'ddpm':
        # Spaced as in DiT: from 0 to 999.
        return DDPMScheduler(**schedule, variance_type='learned_range', timestep_spacing='linspace')
    return DDIMScheduler(**schedule, timestep_spacing='trailing')


def make_generators(seed: int, indices: Iterable[int]) -> list[torch.Generator]:
    """Makes the source of noise of each sample, from the seed and its index alone."""
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

    The noise comes from the CPU, so it is the same on every device, in every batch and process.

    Args:
        denoise: Maps noisy images (B, C, S, S) and time steps (B,) to (B, 2 * C, S, S), as
            :meth:`.Denoiser.forward` does.
        shape: (C, S, S).
        indices: The samples' indices, B of them.
        settings: How to sample.
        clip_sample: As in :func:`build_scheduler`.
        device: Where to compute.
        progress: Goes through the steps, and may show how far it is, as tqdm does.

    Returns:
        (B, C, S, S).
    """
    generators = make_generators(settings.seed, indices)
    x = torch.stack([torch.randn(shape, generator=generator) for generator in generators])
    x = x.to(device)
    scheduler = build_scheduler(settings.sampler, clip_sample)
    scheduler.set_timesteps(settings.num_steps)
    for timestep in progress(scheduler.timesteps):
        out = denoise(x, timestep.to(device).expand(len(x)))
        if settings.sampler == 'ddpm':
            step = scheduler.step(out, timestep, x, generator=generators)
        else:
            # No use for the variance; the noise must agree with the image after clipping.
            step = scheduler.step(out[:, : shape[0]], timestep, x, use_clipped_model_output=True)
        x = step.prev_sample
    return x
