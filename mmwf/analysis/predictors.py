"""Comparison of the weight predictors on handwritten digits."""

from functools import partial
from pathlib import Path

from mmengine.config import Config

from mmwf.config_files import config_root
from mmwf.engine.config import load_config
from mmwf.engine.run import set_up_run

from .named_models import build_named
from .throughput import Settings, measure

CLASSIFIER = 'configs/quickstart/weightformer-w64d8-p4_1xb64-20e_digits-32px.py'
NAME = 'weightformer-tiny-p16_{}_8xb256_in1k.py'
DEFAULT = 'configs/classification/weightformer-tiny-p16_8xb256_in1k.py'
#: The settings of the backbone that differ between the rows of the comparison.
SETTINGS = ('dynamic_blocks', 'dynamic_layers', 'linear_predictor', 'dwconv_predictor')


def find_rows() -> dict[str, str]:
    """Returns the config files of the comparison by row name."""
    before, after = NAME.split('{}')
    paths = sorted((config_root() / 'predictors').glob(NAME.format('*')))
    rows = {
        path.name[len(before) : -len(after)]: f'configs/predictors/{path.name}' for path in paths
    }
    return {'static': rows.pop('static'), **rows, 'default': DEFAULT}


def build_config(row_config: str, epochs: int, seed: int, work_dir: str | Path) -> Config:
    """Applies the dynamic settings of a row to the quick start's classifier.

    Indices of dynamic blocks beyond the classifier's 8 blocks (the rows have 17) are dropped, which
    keeps the pattern.

    Args:
        row_config: Config file of the row.
        epochs: Length of training and learning-rate schedule.
        seed: Seed of initial weights, order of the images and augmentation.
        work_dir: Folder of the log. No checkpoints are written.
    """
    cfg = load_config(CLASSIFIER)
    backbone = load_config(row_config).model.backbone
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
    """Trains a model and returns its final top-1 accuracy on the test images in %."""
    runner = set_up_run(cfg)
    runner.train()
    return runner.test()['accuracy/top1']


def measure_speed(rows: dict[str, str]) -> dict[str, float]:
    """Measures the throughput in images/s of the rows' configs (WeightFormer-T at 224 x 224)."""
    models = {name: partial(build_named, path, 224) for name, path in rows.items()}
    return {row['model']: row['images_per_second'] for row in measure(models, 224, Settings())}


def format_table(runs: dict[str, dict[str, float]], speed: dict[str, float]) -> str:
    """Formats the results as a markdown table.

    Args:
        runs: Top-1 in % by row and seed.
        speed: Throughput in images/s by row. The ratio is to the first row's.
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
