"""Counts a model's multiply-adds and parameters.

One image; matrix products and convolutions count, norms, activations, pooling and interpolation do
not; each product in the order in which the paper writes it. A detector's box heads run on all
proposals of the config (1000); its mask head is not counted unless asked for, nor is a segmentor's
auxiliary head. Of a diffusion model the denoiser counts, at its own size.
"""

import argparse
import contextlib
import json
import sys

from mmengine.registry import MODELS, init_default_scope

from mmwf.analysis.flops import count_multiply_adds
from mmwf.apis.environment import import_task_library, load_config, run


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--shape', nargs=2, type=int, default=(224, 224), metavar=('HEIGHT', 'WIDTH')
    )
    parser.add_argument(
        '--count-mask-head', action='store_true', help="a detector's, on 100 detections"
    )
    parser.add_argument('--count-auxiliary-head', action='store_true', help="a segmentor's")
    parser.add_argument('--json', action='store_true', help='print one JSON object')
    args = parser.parse_args()
    with contextlib.redirect_stdout(sys.stderr):  # what the libraries say while they load
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
    if 'bbox_head' in counts:
        boxes = f'{model.test_cfg.rpn.max_per_img} proposals'
        print(f'Box heads on {boxes}; mask head {"" if args.count_mask_head else "not "}counted.')


if __name__ == '__main__':
    run(main)
