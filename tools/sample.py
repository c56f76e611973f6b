"""Samples images from a trained diffusion model; see --help."""

from mmwf.apis.environment import run
from mmwf.apis.sample import main

if __name__ == '__main__':
    run(main)
