"""``mmwf digits``: writes scikit-learn's handwritten digits as an image folder."""

import argparse

from mmwf.datasets.toy.digits import write_digits


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Write scikit-learn's handwritten digits as an image folder, in the layout of "
        'ImageNet.'
    )
    parser.add_argument(
        '--out', default='data/digits', metavar='DIR', help='folder to write (default: data/digits)'
    )
    parser.add_argument('--seed', type=int, default=0, help='seed of the split (default: 0)')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Runs the command."""
    args = parse_args(argv)
    for split, count in write_digits(args.out, args.seed).items():
        print(f'{args.out}/{split}: {count} images')
