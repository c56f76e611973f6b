"""Converts released WeightFormer weights, of classification or image generation, to this project's
checkpoints, and back."""

import argparse

from mmwf.apis.convert import convert_released
from mmwf.apis.environment import run


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('src', help='released .pth or .safetensors, or hf://OWNER/NAME')
    parser.add_argument('dst', help='.pth to write (with --reverse also .safetensors)')
    parser.add_argument('--reverse', action='store_true', help='from our checkpoint to released')
    args = parser.parse_args()
    print(convert_released(args.src, args.dst, reverse=args.reverse))


if __name__ == '__main__':
    run(main)
