"""Converts a DeiT classifier to the backbone of the detection baselines; see --help."""

from mmwf.commands import run

if __name__ == '__main__':
    run('deit-to-vitdet')
