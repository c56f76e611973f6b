"""Writes scikit-learn's handwritten digits as an image folder in the manner of ImageNet."""

import argparse

from mmwf.datasets.digits import write_digits

if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--out', default='data/digits', help='folder to write')
    parser.add_argument('--seed', type=int, default=0, help='seed of the split')
    args = parser.parse_args()
    for split, count in write_digits(args.out, args.seed).items():
        print(f'{args.out}/{split}: {count} images')
