"""Checks that the data of a config are there and fit its model; see --help."""

from mmwf.apis.check_dataset import main
from mmwf.apis.environment import run

if __name__ == '__main__':
    run(main)
