"""``tools/analysis_tools/compare_predictors.py``: trains the quick start's classifier with each way
to predict weights, on handwritten digits, with several seeds, and measures their speed."""

import argparse
import time
from functools import partial
from pathlib import Path

import mmengine
from mmengine.config import Config

from mmwf.analysis.benchmark import Settings, describe_machine, measure
from mmwf.datasets.digits import write_digits

from . import environment
from .benchmark import build_model
from .environment import UserError

CLASSIFIER = 'configs/quickstart/weightformer-w64d8-p4_1xb64-20e_digits-32px.py'
NAME = 'weightformer-tiny-p16_{}_8xb256_in1k.py'
DEFAULT = 'configs/classification/weightformer-tiny-p16_8xb256_in1k.py'
#: The backbone's settings that a row of the comparison stands for.
SETTINGS = ('dynamic_blocks', 'dynamic_layers', 'linear_predictor', 'dwconv_predictor')


def find_rows() -> dict[str, str]:
    """Finds the rows of the comparison: configs of ``configs/predictors`` by their short names.

    Raises:
        UserError: If there are none here.
    """
    before, after = NAME.split('{}')
    paths = sorted(Path('configs/predictors').glob(NAME.format('*')))
    rows = {path.name[len(before) : -len(after)]: str(path) for path in paths}
    if 'static' not in rows:
        raise UserError(
            f'Expected configs/predictors in {Path.cwd()}; run from the folder of the project.'
        )
    return {'static': rows.pop('static'), **rows, 'default': DEFAULT}


def build_config(row_config: str, epochs: int, seed: int, work_dir: str | Path) -> Config:
    """Puts the dynamic settings of a row into the quick start's classifier.

    Of dynamic blocks that a row names by their indices, among 17, those remain that the classifier
    has with its 8: the same pattern, in a network half as deep.

    Args:
        row_config: Config file of the row.
        epochs: Length of the training, the learning-rate schedule included.
        seed: Of initial weights, order of the images and augmentation.
        work_dir: Where the log goes. No checkpoints are written.
    """
    cfg = environment.load_config(CLASSIFIER)
    backbone = environment.load_config(row_config).model.backbone
    settings = {key: backbone[key] for key in SETTINGS if key in backbone}
    if isinstance(settings.get('dynamic_blocks'), list):
        depth = cfg.model.backbone.arch.depth
        settings['dynamic_blocks'] = [i for i in settings['dynamic_blocks'] if i < depth]
    cfg.model.backbone.update(settings)
    cosine, warm_up = cfg.param_scheduler
    cosine.update(T_max=epochs, end=epochs)
    warm_up.end = min(warm_up.end, epochs)
    cfg.train_cfg.max_epochs = epochs
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    cfg.default_hooks.checkpoint = None
    cfg.randomness.seed = seed
    cfg.log_level = 'WARNING'
    cfg.work_dir = str(work_dir)
    cfg.experiment_name = cfg.work_dir.replace('/', '_')
    return cfg


def train(cfg: Config) -> float:
    """Trains; returns the top-1 accuracy in % on the test images, after the last epoch."""
    environment.set_up_processes(cfg, 'none')
    runner = environment.build_runner(cfg)
    runner.train()
    return runner.test()['accuracy/top1']


def measure_speed(rows: dict[str, str]) -> dict[str, float]:
    """Measures the configs of some rows (WeightFormer-T) in one run, in images/s at 224 x 224."""
    models = {name: partial(build_model, path, 224) for name, path in rows.items()}
    return {row['model']: row['images_per_second'] for row in measure(models, 224, Settings())}


def format_table(runs: dict[str, dict[str, float]], speed: dict[str, float]) -> str:
    """Formats the results as a markdown table.

    Args:
        runs: For each row, top-1 in % by seed.
        speed: For each row, images/s. The ratio is to the first row's.
    """
    seeds = sorted({seed for row in runs.values() for seed in row}, key=int)
    header = [f'seed {seed}' for seed in seeds] + ['mean', 'min - max', 'images/s', 'ratio']
    lines = [f'| predictor | {" | ".join(header)} |', '|---' * (len(header) + 1) + '|']
    reference = speed[next(iter(runs))]
    for name, row in runs.items():
        values = list(row.values())
        cells = [f'{row[seed]:.1f}' if seed in row else '' for seed in seeds]
        cells += [f'{sum(values) / len(values):.1f}', f'{min(values):.1f} - {max(values):.1f}']
        cells += [f'{speed[name]:.1f}', f'{speed[name] / reference:.2f}']
        lines.append(f'| {name} | {" | ".join(cells)} |')
    return '\n'.join(lines)


def main(argv: list[str] | None = None) -> None:
    """Runs ``tools/analysis_tools/compare_predictors.py``."""
    rows = find_rows()
    parser = argparse.ArgumentParser(
        description="Train the quick start's classifier with each way to predict weights. Runs "
        'that are finished are not repeated.'
    )
    parser.add_argument('--epochs', type=int, default=20, help='of each run (default 20)')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2], metavar='SEED')
    parser.add_argument(
        '--rows', nargs='+', default=list(rows), metavar='ROW', help=f'out of {", ".join(rows)}'
    )
    parser.add_argument(
        '--work-dir',
        default='work_dirs/compare_predictors',
        help='where logs and results go, those of each number of epochs apart',
    )
    args = parser.parse_args(argv)
    unknown = [name for name in args.rows if name not in rows]
    if unknown:
        raise UserError(f'Expected rows out of {", ".join(rows)}; got {", ".join(unknown)}.')
    if args.epochs < 1:
        raise UserError(f'Expected at least 1 epoch, got {args.epochs}.')
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
