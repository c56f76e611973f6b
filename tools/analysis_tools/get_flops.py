"""Counts multiply-adds and parameters; see --help."""

from mmwf.commands import run

if __name__ == '__main__':
    run('get-flops')
