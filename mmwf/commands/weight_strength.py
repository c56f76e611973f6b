"""``mmwf weight-strength``: plots the strength of the predicted weights against the depth."""

import argparse
import csv
import io

from mmwf.analysis.backbone import build_backbone
from mmwf.analysis.weight_strength import dynamic_layers, measure_weight_strength, summarize
from mmwf.errors import UserError
from mmwf.files import write_text
from mmwf.visualization.plots import draw_weight_strength

from ._common import add_config_arguments
from ._images import add_image_arguments, read_image_arguments


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Plot the strength of the predicted weights relative to the static ones, '
        '||dW||_F / ||W0||_F, against the depth.'
    )
    add_config_arguments(parser, 'model.backbone.dynamic_blocks=all')
    parser.add_argument(
        'checkpoint', nargs='?', help='checkpoint or released weights (default: random weights)'
    )
    add_image_arguments(parser)
    parser.add_argument(
        '--out', required=True, metavar='FILE.png', help='plot to write; numbers go to FILE.csv'
    )
    return parser.parse_intermixed_args(argv)  # allows options between CONFIG and CHECKPOINT


def main(argv: list[str] | None = None) -> None:
    """Runs the command."""
    args = parse_args(argv)
    cfg, images, out = read_image_arguments(args)
    backbone = build_backbone(cfg, args.checkpoint)
    if not dynamic_layers(backbone):
        raise UserError(f'The backbone of {args.config} has no dynamic layers.')
    rows = summarize(measure_weight_strength(backbone, images))
    table = io.StringIO(newline='')
    writer = csv.DictWriter(table, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    write_text(out.with_suffix('.csv'), table.getvalue())
    draw_weight_strength(rows, out)
    print(
        f'||dW||_F / ||W0||_F with {args.checkpoint or "random weights"}, '
        f'mean and standard deviation over {len(images)} images:'
    )
    for row in rows:
        print(f'  block {row["block"]:>2}  {row["layer"]:<8}{row["mean"]:>9.3g} ± {row["std"]:.2g}')
    print(f'{out}, {out.with_suffix(".csv")}')
