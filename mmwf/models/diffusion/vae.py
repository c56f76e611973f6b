"""Loading the VAE of latent diffusion, and encoding and decoding with it."""

import torch
from torch import Tensor, nn

from mmwf.errors import UserError


def load_vae(path: str) -> nn.Module:
    """Loads an ``AutoencoderKL`` of diffusers.

    Args:
        path: A folder in diffusers' format (``config.json`` and the weights), or the name of a
            model on the Hugging Face Hub, such as ``stabilityai/sd-vae-ft-ema``.

    Returns:
        The VAE, in evaluation mode.

    Raises:
        UserError: If the VAE cannot be loaded; the message says what to download.
    """
    from diffusers import AutoencoderKL

    try:
        # low_cpu_mem_usage=True would require the accelerate package.
        return AutoencoderKL.from_pretrained(path, low_cpu_mem_usage=False).eval()
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f'Cannot load the VAE {path}: {reason} Expected a local folder with config.json and '
            'diffusion_pytorch_model.safetensors, or the name of a model on the Hugging Face Hub. '
            'Without internet access, download it on another machine with '
            '"hf download stabilityai/sd-vae-ft-ema --local-dir FOLDER" and pass that folder.'
        ) from error


@torch.no_grad()
def encode_with_flip(vae: nn.Module, images: Tensor) -> Tensor:
    """Encodes images and their horizontal flips.

    Args:
        vae: An ``AutoencoderKL`` of diffusers.
        images: RGB images, (B, 3, H, W), uint8.

    Returns:
        Mean and standard deviation of the latents, concatenated over the channels,
        (B, 2, 2C, h, w): the image first, then its flip.
    """
    images = images.to(vae.device, vae.dtype) / 127.5 - 1
    both = torch.stack([images, images.flip(-1)], dim=1)  # (B, 2, 3, H, W)
    latents = vae.encode(both.flatten(0, 1)).latent_dist
    return torch.cat([latents.mean, latents.std], dim=1).unflatten(0, (-1, 2))


class LatentDecoder:
    """Decodes latents with a VAE, which is loaded on first use.

    Not an ``nn.Module``, so the weights of the VAE are neither trained nor saved with the model.

    Args:
        path: As in :func:`load_vae`.
        scale: Scaling factor of the latents; they are divided by it before decoding.
    """

    def __init__(self, path: str, scale: float = 0.18215):
        self.path = path
        self.scale = scale
        self._vae = None

    def load(self) -> None:
        """Loads the VAE if it is not loaded yet.

        Raises:
            UserError: As :func:`load_vae`.
        """
        if self._vae is None:
            self._vae = load_vae(self.path)

    @torch.no_grad()
    def __call__(self, latents: Tensor) -> Tensor:
        """Maps latents (B, 4, S, S) to images (B, 3, 8 * S, 8 * S), approximately in [-1, 1]."""
        self.load()
        return self._vae.to(latents.device).decode(latents / self.scale).sample
