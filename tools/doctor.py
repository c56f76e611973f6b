"""Diagnoses this environment; see --help."""

from mmwf.commands import run

if __name__ == '__main__':
    run('doctor')
