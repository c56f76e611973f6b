"""``mmwf plot-logs``: plots loss, learning rate and metrics of trainings."""

import argparse
from pathlib import Path

from mmwf.analysis.logs import read_scalars
from mmwf.errors import UserError
from mmwf.visualization.plots import draw_curves


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Plot loss, learning rate and validation metrics of one or more trainings. The '
        'logs of a resumed training are joined.'
    )
    parser.add_argument(
        'work_dirs', nargs='+', metavar='WORK_DIR', help='work dirs of the trainings'
    )
    parser.add_argument(
        '--out', default='curves.png', metavar='FILE', help='plot to write (default: curves.png)'
    )
    parser.add_argument(
        '--keys',
        nargs='+',
        metavar='KEY',
        help='logged values to plot (default: loss, lr and the validation metrics)',
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Runs the command."""
    args = parse_args(argv)
    names = [Path(work_dir).resolve().name for work_dir in args.work_dirs]
    if len(set(names)) < len(names):
        names = args.work_dirs
    curves, metrics = {}, []
    for name, work_dir in zip(names, args.work_dirs, strict=True):
        curves[name], found = read_scalars(work_dir)
        metrics += [key for key in found if key not in metrics]
    known = {key for run in curves.values() for key in run}
    keys = args.keys or [key for key in ('loss', 'lr', *metrics) if key in known]
    unknown = [key for key in keys if key not in known]
    if unknown:
        raise UserError(
            f'Expected each of --keys to be one of {", ".join(sorted(known))}; got '
            f'{", ".join(unknown)}.'
        )
    draw_curves(curves, keys, set(metrics), args.out)
    print(f'Written: {args.out}')
