"""Writes a config for a folder of own data; see --help."""

from mmwf.commands import run

if __name__ == '__main__':
    run('init')
