"""Trains the model of a config; see --help."""

from mmwf.commands import run

if __name__ == '__main__':
    run('train')
