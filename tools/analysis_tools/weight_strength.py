"""Draws the strength of the predicted weights against the depth; see --help."""

from mmwf.apis.environment import run
from mmwf.apis.weight_strength import main

if __name__ == '__main__':
    run(main)
