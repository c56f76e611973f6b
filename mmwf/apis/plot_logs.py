"""``tools/analysis_tools/plot_logs.py``: curves of loss, learning rate and metrics."""

import argparse
import json
import math
from pathlib import Path

from .environment import UserError

Curves = dict[str, dict[int, float]]  # for each key, values by iteration


def read_scalars(work_dir: str | Path) -> tuple[Curves, list[str]]:
    """Reads what MMEngine logged in a work dir, ``TIMESTAMP/vis_data/scalars.json``.

    Runs of several timestamps are joined: a resumed run replaces what the one before it logged from
    that iteration on. A validation stands at the last iteration that was logged before it, since
    its own ``step`` is an iteration or an epoch, depending on the config. COCO's -1, for sizes of
    objects that do not occur, is no value and left out.

    Args:
        work_dir: The folder that was given to ``tools/train.py``.

    Returns:
        The curves, and the keys of those that come from validation.

    Raises:
        UserError: If there are no logs.
    """
    files = sorted(Path(work_dir).glob('*/vis_data/scalars.json'))
    if not files:
        raise UserError(
            f'Expected logs in {work_dir}/TIMESTAMP/vis_data/scalars.json, as training writes '
            'them, and found none. Give the work dirs of runs of tools/train.py.'
        )
    curves: Curves = {}
    metrics = []
    for file in files:
        records = [json.loads(line) for line in file.read_text().splitlines()]
        first = next((record['iter'] for record in records if 'iter' in record), math.inf)
        for curve in curves.values():
            for iteration in [i for i in curve if i >= first]:
                del curve[iteration]
        iteration = 0
        for record in records:
            iteration = record.get('iter', iteration)
            ignored = {'iter', 'epoch', 'step'}
            if 'iter' not in record:
                ignored |= {'time', 'data_time'}  # of the validation, not of the training
                metrics += [key for key in record if key not in ignored and key not in metrics]
            for key in record.keys() - ignored:
                if not (key.startswith('coco/') and record[key] == -1):
                    curves.setdefault(key, {})[iteration] = record[key]
    return curves, metrics


def draw(curves: dict[str, Curves], keys: list[str], metrics: set[str], path: str | Path) -> None:
    """Draws a panel for each key, in it a line for each run.

    Args:
        curves: Of each run, by its name.
        keys: What to draw.
        metrics: Keys of values that are few and get markers.
        path: The picture to write.
    """
    from matplotlib.figure import Figure

    columns = min(len(keys), 3)
    rows = math.ceil(len(keys) / columns)
    legend_rows = math.ceil(len(curves) / columns)
    size = (4 * columns + 0.5, 2.8 * rows + 0.3 * legend_rows)
    figure = Figure(figsize=size, layout='constrained')
    axes = figure.subplots(rows, columns, squeeze=False).flat
    for ax, key in zip(axes, keys, strict=False):
        for i, (name, run) in enumerate(curves.items()):
            points = sorted(run.get(key, {}).items())
            iterations, values = zip(*points, strict=True) if points else ((), ())
            style = dict(color=f'C{i % 10}', linestyle=('-', '--', ':')[i // 10 % 3], label=name)
            ax.plot(iterations, values, marker='o' if key in metrics else None, ms=4, **style)
        ax.set(title=key, xlabel='iteration')
        ax.grid(alpha=0.3)
    for ax in axes[len(keys) :]:
        ax.set_axis_off()
    handles = figure.axes[0].lines
    figure.legend(handles=handles, loc='outside lower center', ncols=columns)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main(argv: list[str] | None = None) -> None:
    """Runs ``tools/analysis_tools/plot_logs.py``."""
    parser = argparse.ArgumentParser(
        description='Draw the curves of one or several trainings. Parts of a resumed training are '
        'joined.'
    )
    parser.add_argument('work_dirs', nargs='+', metavar='WORK_DIR', help='as in train.py')
    parser.add_argument('--out', default='curves.png', help='default curves.png')
    parser.add_argument(
        '--keys', nargs='+', metavar='KEY', help='default: loss, lr and the metrics of validation'
    )
    args = parser.parse_args(argv)
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
            f'Expected keys out of {", ".join(sorted(known))}; got {", ".join(unknown)}.'
        )
    draw(curves, keys, set(metrics), args.out)
    print(f'Written: {args.out}')
