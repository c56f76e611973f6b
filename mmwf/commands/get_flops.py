"""``mmwf get-flops``: counts the multiply-adds and parameters of a model."""

import argparse
import contextlib
import json
import sys

from mmengine.registry import MODELS, init_default_scope

from mmwf.analysis.flops import count_multiply_adds
from mmwf.engine.config import load_config
from mmwf.libraries import import_task_library

DESCRIPTION = """Count the multiply-adds and parameters of a model, for one image.

Matrix products and convolutions are counted; norms, activations, pooling and interpolation are not.
The products of dynamic layers are counted in the order of the paper. The box heads of a detector
run on all proposals of the config (1000); its mask head and the auxiliary head of a segmentor are
counted only if requested. Of detectors with queries (DINO, Mask2Former), only backbone and neck are
counted; of a diffusion model, the denoiser, at its own input size.
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file, or the name of a shipped config')
    parser.add_argument(
        '--shape',
        nargs=2,
        type=int,
        default=(224, 224),
        metavar=('HEIGHT', 'WIDTH'),
        help='size of the image, in pixels (default: 224 224)',
    )
    parser.add_argument(
        '--count-mask-head',
        action='store_true',
        help='count the mask head of a detector, on 100 detections',
    )
    parser.add_argument(
        '--count-auxiliary-head',
        action='store_true',
        help='count the auxiliary head of a segmentor, which only training uses',
    )
    parser.add_argument('--json', action='store_true', help='print one JSON object')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Runs the command."""
    args = parse_args(argv)
    with contextlib.redirect_stdout(sys.stderr):  # messages of the libraries
        cfg = load_config(args.config)
        import_task_library(cfg)
        init_default_scope(cfg.get('default_scope'))
        model = MODELS.build(cfg.model)
        counts = count_multiply_adds(
            model,
            tuple(args.shape),
            mask_head=args.count_mask_head,
            auxiliary_head=args.count_auxiliary_head,
        )
    if args.json:
        print(json.dumps(dict(convention='multiply-adds', **counts)))
        return
    what = f'one image of {args.shape[0]} x {args.shape[1]}'
    if 'denoiser' in counts:
        what = 'one step of one image, without guidance'
    print(f'{args.config}, {what}; multiply-adds:')
    for name, count in counts.items():
        unit = f'{count / 1e6:10.3f} M' if name.startswith('params') else f'{count / 1e9:10.3f} G'
        print(f'  {name:<25}{unit}')
    heads = {name for name, _ in model.named_children() if name.endswith('head')}
    if heads and heads.isdisjoint(counts):
        print(f'Only backbone and neck of the {type(model).__name__} are counted.')
    if 'rpn_head' in counts:
        boxes = f'{model.test_cfg.rpn.max_per_img} proposals'
        print(f'Box heads on {boxes}; mask head {"" if args.count_mask_head else "not "}counted.')
