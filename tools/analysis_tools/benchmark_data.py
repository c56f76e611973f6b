"""Measures images per second and core of a training pipeline; see --help."""

from mmwf.commands import run

if __name__ == '__main__':
    run('benchmark-data')
