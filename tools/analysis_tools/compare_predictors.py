"""Trains all weight predictors on handwritten digits and compares them; see --help."""

from mmwf.commands import run

if __name__ == '__main__':
    run('compare-predictors')
