"""From latents to images."""

import torch
from torch import Tensor

from .vae import load_vae


class LatentDecoder:
    """Decodes latents by a VAE, which is loaded when it is first needed.

    It is no module, so the VAE's weights are neither trained nor saved with the model.

    Args:
        path: As in :func:`.vae.load_vae`.
        scale: Latents are divided by it.
    """

    def __init__(self, path: str, scale: float = 0.18215):
        self.path = path
        self.scale = scale
        self._vae = None

    def load(self) -> None:
        """Loads the VAE, if that is not done yet.

        Raises:
            UserError: If there is no such VAE.
        """
        if self._vae is None:
            self._vae = load_vae(self.path)

    @torch.no_grad()
    def __call__(self, latents: Tensor) -> Tensor:
        """Maps latents (B, 4, S, S) to images (B, 3, 8 * S, 8 * S), about from -1 to 1."""
        self.load()
        return self._vae.to(latents.device).decode(latents / self.scale).sample
