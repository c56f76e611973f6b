"""Measures throughput and memory at several resolutions; see --help."""

from mmwf.commands import run

if __name__ == '__main__':
    run('benchmark')
