"""Plots loss, learning rate and metrics of trainings; see --help."""

from mmwf.commands import run

if __name__ == '__main__':
    run('plot-logs')
