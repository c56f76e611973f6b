"""Draws and measures the effective receptive field of a backbone; see --help."""

from mmwf.apis.environment import run
from mmwf.apis.erf import main

if __name__ == '__main__':
    run(main)
