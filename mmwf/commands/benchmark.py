"""``mmwf benchmark``: throughput and memory against resolution (paper, figure 5)."""

import argparse
import time
from functools import partial
from pathlib import Path

import mmengine
import torch

from mmwf.analysis.named_models import NAMED, build_named, check_name
from mmwf.analysis.throughput import COMPILED, DTYPES, MODES, Settings, describe_machine, measure
from mmwf.apis.exported import require_onnx
from mmwf.apis.onnx_backbone import build_onnx
from mmwf.engine.device import choose_device
from mmwf.errors import UserError
from mmwf.families import describe
from mmwf.visualization.plots import draw_throughput

from ._common import add_device_argument

DEFAULT_MODELS = (
    'timm-plain:deit_tiny_patch16_224',
    'timm:deit_tiny_patch16_224',
    'deit-tiny',
    'weightformer-tiny',
)
#: Prefix of models that onnxruntime runs.
ONNX = 'onnx:'
DEFAULT_SIZES = (224, 384, 512, 768, 1024, 1248)


def format_row(row: dict) -> str:
    """Formats one result of :func:`.measure` as a row of a markdown table."""
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


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Measure throughput and peak memory of backbones, without heads, at several '
        'image sizes. Ratios are relative to the first model. On the CPU, OMP_NUM_THREADS sets the '
        'number of threads.'
    )
    parser.add_argument(
        'models',
        nargs='*',
        default=DEFAULT_MODELS,
        metavar='MODEL',
        help=f'{", ".join(NAMED)}, timm:NAME, timm-plain:NAME (without fused attention) or a '
        'config file; compiled: before one of these compiles it, onnx: runs it in onnxruntime on '
        'the CPU, whose memory is not measured (default: '
        f'{" ".join(DEFAULT_MODELS)})',
    )
    parser.add_argument(
        '--sizes',
        type=int,
        nargs='+',
        default=DEFAULT_SIZES,
        metavar='PIXELS',
        help='height and width of the images, in pixels (default: '
        f'{" ".join(map(str, DEFAULT_SIZES))})',
    )
    parser.add_argument(
        '--batch-size', type=int, default=1, metavar='N', help='images per batch (default: 1)'
    )
    add_device_argument(parser)
    parser.add_argument(
        '--dtype',
        choices=list(DTYPES),
        default='fp32',
        help='precision; bf16 and fp16 use autocast (default: fp32)',
    )
    parser.add_argument(
        '--mode',
        choices=MODES,
        default='forward',
        help='inference, or training without the optimizer step (default: forward)',
    )
    parser.add_argument('--compile', action='store_true', help='compile with torch.compile')
    parser.add_argument(
        '--turns',
        type=int,
        default=10,
        metavar='N',
        help='time each model N times and report the median (default: 10)',
    )
    parser.add_argument(
        '--out',
        default='work_dirs/benchmark',
        metavar='PATH',
        help='write the results to PATH.json and the plot to PATH.png (default: '
        'work_dirs/benchmark)',
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Runs the command."""
    args = parse_args(argv)
    choose_device(args.device, 'none')
    if min(*args.sizes, args.batch_size, args.turns) < 1:
        raise UserError(
            'Expected --sizes, --batch-size and --turns of at least 1, got '
            f'{" ".join(map(str, args.sizes))}, {args.batch_size} and {args.turns}.'
        )
    for name in args.models:
        check_name(name.removeprefix(ONNX if name.startswith(ONNX) else COMPILED))
    labels = [Path(name).stem if name.endswith('.py') else name for name in args.models]
    if len(set(labels)) < len(labels):  # configs with the same name in several folders
        labels = args.models
    device = args.device if args.device != 'auto' else 'cpu'
    if args.device == 'auto' and torch.cuda.is_available():
        device = 'cuda'
    if any(name.startswith(ONNX) for name in args.models):
        require_onnx('onnx', 'onnxscript', 'onnxruntime')
        if (device, args.dtype, args.mode, args.compile) != ('cpu', 'fp32', 'forward', False):
            raise UserError(
                'Expected --device cpu --dtype fp32 --mode forward without --compile for models in '
                f'onnxruntime, got {device}, {args.dtype}, {args.mode}'
                f'{" and --compile" * args.compile}.'
            )
    settings = Settings(
        device=device,
        dtype=args.dtype,
        mode=args.mode,
        compile=args.compile,
        batch_size=args.batch_size,
        turns=args.turns,
    )
    machine = describe_machine(device)
    title = ', '.join(
        [args.mode, args.dtype]
        + ['compiled'] * args.compile
        + [f'batch size {args.batch_size}', machine['device']]
        + [f'threads: {machine["threads"]}'] * (device == 'cpu')
        + [f'torch {machine["torch"]}']
    )
    print(f'{title}\n')
    print('|  size | model | images/s | ratio | MiB per image | ratio |\n|---|---|---|---|---|---|')
    machine.update(timm=describe('timm'), mmpretrain=describe('mmpretrain'))
    results = dict(
        date=time.strftime('%Y-%m-%d'), machine=machine, settings=vars(settings), results=[]
    )
    for size in args.sizes:
        models = {
            label: partial(build_onnx, name.removeprefix(ONNX), size)
            if name.startswith(ONNX)
            else partial(build_named, name.removeprefix(COMPILED), size)
            for label, name in zip(labels, args.models, strict=True)
        }
        rows = measure(models, size, settings)
        print('\n'.join(map(format_row, rows)), flush=True)
        results['results'] += rows
        mmengine.dump(results, f'{args.out}.json', indent=2)
    draw_throughput(results['results'], title, f'{args.out}.png')
    print(f'\nWritten: {args.out}.json, {args.out}.png')
