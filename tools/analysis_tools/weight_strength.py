"""Plots the strength of the predicted weights against the depth; see --help."""

from mmwf.commands import run

if __name__ == '__main__':
    run('weight-strength')
