"""Writes scenes of scanned digits on photographs in the layouts of COCO and ADE20K."""

import argparse

from mmwf.datasets.scenes import NUM_SCENES, WRITERS, write_scenes

if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--out', default='data/scenes', help='folder to write')
    parser.add_argument('--format', nargs='+', choices=list(WRITERS), default=list(WRITERS))
    for split, count in NUM_SCENES.items():
        parser.add_argument(f'--{split}', type=int, default=count, help='number of scenes')
    parser.add_argument('--seed', type=int, default=0, help='seed of the scenes and the split')
    args = parser.parse_args()
    counts = write_scenes(args.out, args.format, {'train': args.train, 'val': args.val}, args.seed)
    for name in args.format:
        print(
            f'{args.out}/{name}: {counts["train"]} scenes to train on, {counts["val"]} to test on'
        )
