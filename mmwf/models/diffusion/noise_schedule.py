"""The noise schedule of training, as in DiT: linear betas over 1000 time steps."""

from typing import Any

NUM_TIMESTEPS = 1000
BETAS = dict(
    num_train_timesteps=NUM_TIMESTEPS, beta_schedule='linear', beta_start=1e-4, beta_end=0.02
)


def build_noise_schedule(**kwargs: Any):
    """Builds diffusers' ``DDPMScheduler`` with this schedule.

    Args:
        **kwargs: Further arguments of ``DDPMScheduler``; they affect sampling only.
    """
    from diffusers import DDPMScheduler

    return DDPMScheduler(**BETAS, **kwargs)
