"""Trains and tests small models on embedded data; quickstart.sh calls it after the set-up."""

from mmwf.apis.environment import run
from mmwf.apis.quickstart import main

if __name__ == '__main__':
    run(main)
