"""Writes scenes with digits in the layouts of COCO and ADE20K; see --help."""

from mmwf.commands import run

if __name__ == '__main__':
    run('digit-scenes')
