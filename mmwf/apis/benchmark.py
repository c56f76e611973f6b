"""``tools/analysis_tools/benchmark.py``: speed and memory against resolution (paper figure 5)."""

import argparse
import time
from functools import partial
from importlib.metadata import version
from pathlib import Path

import mmengine
import torch
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from mmwf.analysis.benchmark import DTYPES, MODES, Settings, describe_machine, measure

from . import environment
from .environment import UserError

NAMED = {
    'weightformer-tiny': 'configs/classification/weightformer-tiny-p16_8xb256_in1k.py',
    'weightformer-small': 'configs/classification/weightformer-small-p16_8xb256_in1k.py',
    'weightformer-base': 'configs/classification/weightformer-base-p16_8xb256_in1k-448px.py',
    'deit-tiny': 'configs/classification/deit-tiny-p16_8xb256_in1k.py',
    'deit-small': 'configs/classification/deit-small-p16_8xb256_in1k.py',
}
#: timm's models with fused attention, and with plain attention, whose N x N map is in memory.
TIMM = ('timm:', 'timm-plain:')
DEFAULT_MODELS = (
    'timm-plain:deit_tiny_patch16_224',
    'timm:deit_tiny_patch16_224',
    'deit-tiny',
    'weightformer-tiny',
)
DEFAULT_SIZES = (224, 384, 512, 768, 1024, 1248)


def check_model(name: str) -> None:
    """Checks that there is such a model.

    Raises:
        UserError: If not.
    """
    if name.startswith(TIMM):
        import timm

        if not timm.is_model(name.split(':')[1]):
            raise UserError(f'timm {timm.__version__} has no model {name.split(":")[1]}.')
    elif name not in NAMED and not name.endswith('.py'):
        raise UserError(
            f'Expected models out of {", ".join(NAMED)}, timm:NAME, timm-plain:NAME (without fused '
            f'attention) or config files; got {name}.'
        )
    elif 'backbone' not in environment.load_config(NAMED.get(name, name)).get('model', {}):
        raise UserError(f'{name} has no model with a backbone.')


def build_model(name: str, size: int) -> nn.Module:
    """Builds a model without its head.

    Args:
        name: A key of ``NAMED``, ``timm:NAME``, ``timm-plain:NAME`` or a config file, of which the
            backbone is taken.
        size: Height and width of the images, which some position embeddings must know.
    """
    if name.startswith(TIMM):
        import timm

        timm.layers.set_fused_attn(name.startswith('timm:'))
        model = timm.create_model(name.split(':')[1], num_classes=0)
        if hasattr(model, 'set_input_size'):
            model.set_input_size(img_size=size)
        return model
    cfg = environment.load_config(NAMED.get(name, name))
    backbone = cfg.model.backbone
    if 'img_size' in backbone:
        backbone.img_size = size
    if not backbone.type.startswith('mmwf.'):
        environment.import_task_library(cfg)
        init_default_scope(cfg.get('default_scope'))
    return MODELS.build(backbone)


def format_row(row: dict) -> str:
    """Formats one result as a row of a markdown table."""
    cells = [f'{row["size"]:>5}', f'{row["model"]:<36}']
    if 'error' in row:
        return f'| {" | ".join(cells)} | {row["error"]} | | | |'
    for key, form in (
        ('images_per_second', '{:>9.3g}'),
        ('speed_ratio', '{:>6.2f}'),
        ('memory_per_image_mib', '{:>9.0f}'),
        ('memory_ratio', '{:>6.2f}'),
    ):
        cells.append(form.format(row[key]) if key in row else '')
    return f'| {" | ".join(cells)} |'


def draw(rows: list[dict], title: str, path: str | Path) -> None:
    """Draws speed and memory against the image size.

    Args:
        rows: Results of :func:`mmwf.analysis.benchmark.measure`.
        title: Says what they were measured on.
        path: The picture to write.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.6), layout='constrained')
    panels = (
        ('images_per_second', 'throughput (images/s)'),
        ('memory_per_image_mib', 'peak memory (MiB per image)'),
    )
    sizes = sorted({row['size'] for row in rows})
    axes = figure.subplots(1, 2)
    for ax, (key, label) in zip(axes, panels, strict=True):
        for name in dict.fromkeys(row['model'] for row in rows):
            mine = [row for row in rows if row['model'] == name]
            measured = [row for row in mine if key in row]
            points = [row['size'] for row in measured], [row[key] for row in measured]
            lacking = [row['size'] for row in mine if 'error' in row]
            note = f' (out of memory at {", ".join(map(str, lacking))})' if lacking else ''
            ax.plot(*points, marker='o', label=name + note)
        ax.set(xlabel='image size (pixels)', ylabel=label, yscale='log', xticks=sizes)
        ax.tick_params(axis='x', rotation=45 if len(sizes) > 6 else 0)
        ax.grid(alpha=0.3)
    figure.legend(handles=axes[0].lines, loc='outside lower center', ncols=2, fontsize=9)
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=110)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Measure throughput and peak memory of backbones, without heads, at several '
        'image sizes. Ratios are to the first model. On the CPU, OMP_NUM_THREADS sets the number '
        'of threads.'
    )
    parser.add_argument(
        'models',
        nargs='*',
        default=DEFAULT_MODELS,
        metavar='MODEL',
        help=f'{", ".join(NAMED)}, timm:NAME, timm-plain:NAME (without fused attention) or a '
        f'config file; default: {" ".join(DEFAULT_MODELS)}',
    )
    parser.add_argument(
        '--sizes',
        type=int,
        nargs='+',
        default=DEFAULT_SIZES,
        metavar='PIXELS',
        help=f'height and width of the images; default: {" ".join(map(str, DEFAULT_SIZES))}',
    )
    parser.add_argument('--batch-size', type=int, default=1, metavar='N', help='images at once')
    parser.add_argument('--device', choices=['auto', 'cuda', 'cpu'], default='auto')
    parser.add_argument(
        '--dtype', choices=list(DTYPES), default='fp32', help='bf16 and fp16 by autocast'
    )
    parser.add_argument(
        '--mode', choices=MODES, default='forward', help='inference, or training without optimizer'
    )
    parser.add_argument('--compile', action='store_true', help='run through torch.compile')
    parser.add_argument(
        '--turns', type=int, default=10, metavar='N', help='the median of N counts (default 10)'
    )
    parser.add_argument(
        '--out',
        default='work_dirs/benchmark',
        metavar='PATH',
        help='results go to PATH.json, the picture to PATH.png (default work_dirs/benchmark)',
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Runs ``tools/analysis_tools/benchmark.py``."""
    args = parse_args(argv)
    environment.choose_device(args.device, 'none')
    if min(*args.sizes, args.batch_size, args.turns) < 1:
        raise UserError(
            'Expected --sizes, --batch-size and --turns of at least 1, got '
            f'{" ".join(map(str, args.sizes))}, {args.batch_size} and {args.turns}.'
        )
    for name in args.models:
        check_model(name)
    labels = [Path(name).stem if name.endswith('.py') else name for name in args.models]
    if len(set(labels)) < len(labels):  # configs of one name in several folders
        labels = args.models
    device = args.device if args.device != 'auto' else 'cpu'
    if args.device == 'auto' and torch.cuda.is_available():
        device = 'cuda'
    settings = Settings(
        device=device,
        dtype=args.dtype,
        mode=args.mode,
        compile=args.compile,
        batch_size=args.batch_size,
        turns=args.turns,
    )
    machine = describe_machine(device)
    title = f'{args.mode}, {args.dtype}{", compiled" if args.compile else ""}, batch size '
    title += f'{args.batch_size}, {machine["device"]}'
    title += f', threads: {machine["threads"]}' if device == 'cpu' else ''
    title += f', torch {machine["torch"]}'
    print(f'{title}\n')
    print('|  size | model | images/s | ratio | MiB per image | ratio |\n|---|---|---|---|---|---|')
    machine.update(timm=version('timm'), mmpretrain=version('onedl-mmpretrain'))
    results = dict(
        date=time.strftime('%Y-%m-%d'), machine=machine, settings=vars(settings), results=[]
    )
    for size in args.sizes:
        models = {
            label: partial(build_model, name, size)
            for label, name in zip(labels, args.models, strict=True)
        }
        rows = measure(models, size, settings)
        print('\n'.join(map(format_row, rows)), flush=True)
        results['results'] += rows
        mmengine.dump(results, f'{args.out}.json', indent=2)
    draw(results['results'], title, f'{args.out}.png')
    print(f'\nWritten: {args.out}.json, {args.out}.png')
