"""Encodes an image folder with a VAE, for latent diffusion; see --help."""

from mmwf.commands import run

if __name__ == '__main__':
    run('imagenet-to-latents')
