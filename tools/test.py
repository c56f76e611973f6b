"""Computes the metrics of a trained model; see --help."""

from mmwf.commands import run

if __name__ == '__main__':
    run('test')
