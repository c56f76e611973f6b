"""``mmwf init``: writes a config for a folder of own data."""

import argparse
import shlex
from pathlib import Path

from mmwf.apis.own_config import WIDTHS, write_own_config
from mmwf.datasets.own import LAYOUTS


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Look at a folder of your own data and write a config that trains on it.',
        epilog='Known layouts: '
        + '; '.join(f'{task}: {layout} ({text})' for layout, (_, task, text) in LAYOUTS.items()),
    )
    parser.add_argument('--data', required=True, metavar='DIR', help='the folder')
    parser.add_argument(
        '--task',
        choices=sorted({task for _, task, _ in LAYOUTS.values()}),
        help='task, if several layouts fit (default: that of the first one)',
    )
    parser.add_argument(
        '--like',
        choices=list(WIDTHS),
        default='tiny',
        help='size of the model: tiny and small start from checkpoints/weightformer-SIZE_in1k.pth; '
        'quickstart is for CPUs: a smaller one, from random weights, on small images '
        '(default: tiny)',
    )
    parser.add_argument(
        '--out',
        metavar='FILE.py',
        help='config to write (default: NAME_own.py in the current folder, NAME being that of DIR)',
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Runs the command."""
    args = parse_args(argv)
    out = args.out or f'{Path(args.data).absolute().name}_own.py'
    data = write_own_config(args.data, out, args.task, args.like)
    shown = ', '.join(data.classes[:10]) + ', ...' * (len(data.classes) > 10)
    masks = ' with masks' if data.has_masks else ''
    print(f'{data.task} from {data.layout}{masks}, {len(data.classes)} classes: {shown}')
    print(
        f'{data.train.number:,} training and {data.val.number:,} validation images, typically '
        f'{data.size[1]} x {data.size[0]} pixels'
    )
    print('\n'.join([*data.notes, f'Written: {out}', f'Next: mmwf train {shlex.quote(str(out))}']))
