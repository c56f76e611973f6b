"""Writes handwritten digits as an image folder; see --help."""

from mmwf.commands import run

if __name__ == '__main__':
    run('digits')
