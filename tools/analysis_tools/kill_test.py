"""Kills and resumes a training; see --help."""

from mmwf.commands import run

if __name__ == '__main__':
    run('kill-test')
