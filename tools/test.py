"""Computes the metrics of a trained model; see --help."""

from mmwf.apis.environment import run
from mmwf.apis.test import main

if __name__ == '__main__':
    run(main)
