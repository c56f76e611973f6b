"""Measures throughput and memory of backbones against resolution; see --help."""

from mmwf.apis.benchmark import main
from mmwf.apis.environment import run

if __name__ == '__main__':
    run(main)
