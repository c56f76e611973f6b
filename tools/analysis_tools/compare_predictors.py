"""Compares the ways to predict weights on handwritten digits; see --help."""

from mmwf.apis.compare_predictors import main
from mmwf.apis.environment import run

if __name__ == '__main__':
    run(main)
