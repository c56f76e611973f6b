"""``mmwf compare-predictors``: accuracy on digits and throughput of each weight predictor."""

import argparse
import time
from pathlib import Path

import mmengine

from mmwf.analysis.predictors import (
    CLASSIFIER,
    build_config,
    find_rows,
    format_table,
    measure_speed,
    train,
)
from mmwf.analysis.throughput import describe_machine
from mmwf.datasets.toy.digits import write_digits
from mmwf.errors import UserError


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    rows = list(find_rows())
    parser = argparse.ArgumentParser(
        description="Train the quick start's classifier with each weight predictor and several "
        'seeds, and measure its throughput. Finished runs are not repeated.'
    )
    parser.add_argument(
        '--epochs', type=int, default=20, metavar='N', help='train for N epochs (default: 20)'
    )
    parser.add_argument(
        '--seeds',
        type=int,
        nargs='+',
        default=[0, 1, 2],
        metavar='SEED',
        help='train once with each seed (default: 0 1 2)',
    )
    parser.add_argument(
        '--rows',
        nargs='+',
        default=rows,
        metavar='ROW',
        help=f'predictors to compare: {", ".join(rows)} (default: all)',
    )
    parser.add_argument(
        '--work-dir',
        default='work_dirs/compare_predictors',
        metavar='DIR',
        help='write logs and results to DIR/EPOCHSe (default: work_dirs/compare_predictors)',
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Runs the command."""
    args = parse_args(argv)
    rows = find_rows()
    unknown = [name for name in args.rows if name not in rows]
    if unknown:
        raise UserError(
            f'Expected each of --rows to be one of {", ".join(rows)}; got {", ".join(unknown)}.'
        )
    if args.epochs < 1:
        raise UserError(f'Expected --epochs of 1 or more, got {args.epochs}.')
    write_digits('data/digits')
    work_dir = Path(args.work_dir) / f'{args.epochs}e'
    out = work_dir / 'results.json'
    results = mmengine.load(out) if out.exists() else dict(metric='top-1 in %', runs={})
    results.update(config=CLASSIFIER, epochs=args.epochs, machine=describe_machine())
    runs = results['runs']
    for seed in args.seeds:
        for name in args.rows:
            if str(seed) in runs.get(name, {}):
                continue
            cfg = build_config(rows[name], args.epochs, seed, work_dir / f'{name}_seed{seed}')
            start = time.perf_counter()
            top1 = train(cfg)
            runs.setdefault(name, {})[str(seed)] = round(top1, 4)
            mmengine.dump(results, out, indent=2)
            seconds = time.perf_counter() - start
            print(f'{name}, seed {seed}: top-1 {top1:.1f} ({seconds:.0f} s)', flush=True)
    if not set(args.rows) <= set(results.get('images_per_second', {})):
        results['images_per_second'] = measure_speed({name: rows[name] for name in args.rows})
        mmengine.dump(results, out, indent=2)
    print(
        f'Top-1 on the digits after {args.epochs} epochs, in %; images/s of WeightFormer-T at '
        f'224 x 224, batch size 1, forward ({out}):\n'
    )
    print(format_table({name: runs[name] for name in args.rows}, results['images_per_second']))
