"""Trains the model of a config; see --help."""

from mmwf.apis.environment import run
from mmwf.apis.train import main

if __name__ == '__main__':
    run(main)
