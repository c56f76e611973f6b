"""Encodes a folder of images with a VAE; see --help."""

from mmwf.apis.encode_latents import main
from mmwf.apis.environment import run

if __name__ == '__main__':
    run(main)
