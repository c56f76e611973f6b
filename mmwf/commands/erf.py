"""``mmwf erf``: plots and measures the effective receptive field."""

import argparse

import mmengine
import numpy as np

from mmwf.analysis.backbone import build_backbone
from mmwf.analysis.receptive_field import effective_receptive_field, measure_squares
from mmwf.errors import UserError
from mmwf.files import atomic_write
from mmwf.visualization.plots import draw_receptive_fields

from ._common import add_config_arguments
from ._images import add_image_arguments, read_image_arguments


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Plot the effective receptive field of a backbone before training (--init), '
        'after training (CHECKPOINT), or both side by side.'
    )
    add_config_arguments(parser, 'model.backbone.dynamic_blocks=none')
    parser.add_argument(
        'checkpoint', nargs='?', help='checkpoint or released weights of the trained model'
    )
    parser.add_argument('--init', action='store_true', help='plot the model with random weights')
    add_image_arguments(parser)
    parser.add_argument(
        '--out',
        required=True,
        metavar='FILE.png',
        help='plot to write; the maps go to FILE.npz, the numbers to FILE.json',
    )
    return parser.parse_intermixed_args(argv)  # allows options between CONFIG and CHECKPOINT


def main(argv: list[str] | None = None) -> None:
    """Runs the command."""
    args = parse_args(argv)
    if not (args.init or args.checkpoint):
        raise UserError('Expected a CHECKPOINT, --init for random weights, or both.')
    cfg, images, out = read_image_arguments(args)
    checkpoints = {'before training': None} if args.init else {}
    if args.checkpoint:
        checkpoints['after training'] = args.checkpoint
    fields, squares = {}, {}
    for title, checkpoint in checkpoints.items():
        backbone = build_backbone(cfg, checkpoint)
        if hasattr(backbone, 'out_type'):  # a classifier's may return a vector
            backbone.out_type = 'featmap'
        field = effective_receptive_field(backbone, images)
        fields[title], squares[title] = field.cpu().numpy(), measure_squares(field)
    with atomic_write(out.with_suffix('.npz')) as file:
        np.savez(file, **{k.replace(' ', '_'): v for k, v in fields.items()})
    settings = dict(
        config=args.config, checkpoint=args.checkpoint, shape=images.shape, images=len(images)
    )
    mmengine.dump(dict(settings, squares=squares), out.with_suffix('.json'), indent=2)
    draw_receptive_fields(fields, squares, out)
    print(
        f'Smallest centred square that contains a share of the response, {len(images)} images of '
        f'{images.shape[0]} x {images.shape[1]}:'
    )
    for title, by_share in squares.items():
        for share, square in by_share.items():
            side, area = square['side'], square['area_share']
            print(f'  {title:<16}{share:>4}  {side:>5} px  {area:>6.1%} of the area')
    print(f'{out}, {out.with_suffix(".npz")}, {out.with_suffix(".json")}')
