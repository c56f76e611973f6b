"""Plots the effective receptive field of a backbone; see --help."""

from mmwf.commands import run

if __name__ == '__main__':
    run('erf')
