"""Writes the features of pictures to a file; see --help."""

from mmwf.commands import run

if __name__ == '__main__':
    run('features')
