"""Checks that the data of a config fit its model; see --help."""

from mmwf.commands import run

if __name__ == '__main__':
    run('check-dataset')
