"""Converts released weights to checkpoints of mmwf, or back; see --help."""

from mmwf.commands import run

if __name__ == '__main__':
    run('official-to-mmwf')
