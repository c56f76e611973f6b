"""Samples images from a trained diffusion model; see --help."""

from mmwf.commands import run

if __name__ == '__main__':
    run('sample')
