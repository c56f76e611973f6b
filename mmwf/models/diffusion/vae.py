"""The VAE between images and latents."""

from torch import nn

from mmwf.errors import UserError


def load_vae(path: str) -> nn.Module:
    """Loads the AutoencoderKL of diffusers that latent diffusion models work with.

    Args:
        path: A folder that diffusers wrote (``config.json`` and the weights), or the name of a
            model on the hub, such as ``stabilityai/sd-vae-ft-ema``.

    Returns:
        The VAE, in evaluation mode.

    Raises:
        UserError: If it cannot be had; the message says what to fetch.
    """
    from diffusers import AutoencoderKL

    try:
        # The other way of loading needs a further package, accelerate.
        return AutoencoderKL.from_pretrained(path, low_cpu_mem_usage=False).eval()
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f'Cannot load the VAE {path}: {reason} Expected a local folder with config.json and '
            'diffusion_pytorch_model.safetensors, or a model that the hub has. Without internet, '
            'fetch it elsewhere, with "hf download stabilityai/sd-vae-ft-ema --local-dir FOLDER", '
            'and give that folder.'
        ) from error
