"""Checks numerics, training, launchers and speed on this machine; see --help."""

from mmwf.commands import run

if __name__ == '__main__':
    run('check-gpu')
