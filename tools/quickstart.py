"""Trains and tests small models on included data; see --help."""

from mmwf.commands import run

if __name__ == '__main__':
    run('quickstart')
