"""Predicts what is in pictures, and draws it; see --help."""

from mmwf.commands import run

if __name__ == '__main__':
    run('infer')
