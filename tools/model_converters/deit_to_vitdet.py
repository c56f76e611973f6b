"""Converts an ImageNet checkpoint of DeiT to the backbone of the detection baselines."""

import argparse

from mmwf.apis.convert import convert_deit
from mmwf.apis.environment import run


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('src', help="checkpoint of mmpretrain's ImageClassifier with a DeiT")
    parser.add_argument('dst', help='.pth to write, for model.backbone.init_cfg.checkpoint')
    args = parser.parse_args()
    print(convert_deit(args.src, args.dst))


if __name__ == '__main__':
    run(main)
