"""``mmwf digit-scenes``: writes scenes with digits in the layouts of COCO and ADE20K."""

import argparse

from mmwf.datasets.toy.scenes import NUM_SCENES, WRITERS, write_scenes


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Write scenes of scanned digits on photographs, for detection in the layout of '
        'COCO and for segmentation in that of ADE20K.'
    )
    parser.add_argument(
        '--out', default='data/scenes', metavar='DIR', help='folder to write (default: data/scenes)'
    )
    parser.add_argument(
        '--format',
        nargs='+',
        choices=list(WRITERS),
        default=list(WRITERS),
        help='layouts to write (default: all)',
    )
    for split, count in NUM_SCENES.items():
        parser.add_argument(
            f'--{split}',
            type=int,
            default=count,
            metavar='N',
            help=f'number of {split} scenes (default: {count})',
        )
    parser.add_argument(
        '--seed', type=int, default=0, help='seed of the scenes and of the split (default: 0)'
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Runs the command."""
    args = parse_args(argv)
    num_scenes = {split: getattr(args, split) for split in NUM_SCENES}
    counts = write_scenes(args.out, args.format, num_scenes, args.seed)
    for name in args.format:
        print(f'{args.out}/{name}: {counts["train"]} training, {counts["val"]} validation scenes')
