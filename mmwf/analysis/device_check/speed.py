"""Throughput and memory of WeightFormer-T compared with DeiT-T with fused attention."""

from dataclasses import replace
from functools import partial

from mmwf.analysis.named_models import build_named
from mmwf.analysis.throughput import MODES, Settings, measure_jobs

from .checks import Context

MODELS = ('timm:deit_tiny_patch16_224', 'weightformer-tiny')
BATCH_SIZES = {224: 128, 512: 16, 1024: 4, 1248: 4}
TOY_BATCH_SIZES = {64: 2, 96: 1}


def speed(context: Context) -> None:
    """Measures inference and training, eager and compiled; ratios are to DeiT in the same mode."""
    batch_sizes = TOY_BATCH_SIZES if context.is_toy else BATCH_SIZES
    settings = Settings(
        device=context.device,
        dtype='fp32' if context.is_toy else 'bf16',
        turns=1 if context.is_toy else 5,
        seconds=0.05 if context.is_toy else 0.3,
    )
    if context.is_toy:
        context.skip('compiled models', 'only on a GPU')
    for size, batch_size in batch_sizes.items():
        if context.seconds_left < (5 if context.is_toy else 60):
            context.skip(f'throughput at {size} x {size}', 'out of time')
            continue
        for compiled in (False,) if context.is_toy else (False, True):
            jobs = {
                f'{model}, {mode}': (
                    partial(build_named, model, size),
                    replace(settings, mode=mode, compile=compiled, batch_size=batch_size),
                )
                for mode in MODES
                for model in MODELS
            }
            for row in measure_jobs(jobs, size):
                model, _, mode = row['model'].rpartition(', ')
                row.update(model=model, mode=mode, compiled=compiled, batch_size=batch_size)
                context.tables.setdefault('speed', []).append(row)
        errors = [
            f'{row["model"]}: {row["error"]}'
            for row in context.tables['speed']
            if row['size'] == size and 'error' in row
        ]
        context.add(f'every model runs at {size} x {size}', not errors, '; '.join(errors))
