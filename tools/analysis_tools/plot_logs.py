"""Draws the curves of trainings: loss, learning rate, metrics; see --help."""

from mmwf.apis.environment import run
from mmwf.apis.plot_logs import main

if __name__ == '__main__':
    run(main)
