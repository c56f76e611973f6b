"""``tools/analysis_tools/erf.py``: draws and measures the effective receptive field."""

import argparse
from pathlib import Path

import matplotlib
import mmengine
import numpy as np
import torch

from mmwf.analysis.receptive_field import effective_receptive_field, square_side

from .analysis import add_arguments, build_backbone, read_arguments
from .environment import UserError

matplotlib.use('Agg')
from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.colors import LogNorm  # noqa: E402

SHARES = (0.2, 0.5, 0.99)
DARKEST = 1e-6  # of the largest response: the colours cover no more than this


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Draw the effective receptive field of a backbone, before training (--init), '
        'after training (CHECKPOINT), or both side by side.'
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', nargs='?', help='checkpoint file')
    parser.add_argument('--init', action='store_true', help='also with random weights')
    add_arguments(parser)
    parser.add_argument(
        '--out',
        required=True,
        metavar='FILE.png',
        help='picture; the maps go to FILE.npz and the figures to FILE.json',
    )
    return parser.parse_intermixed_args(argv)  # options may stand between the two files


def measure_squares(field: torch.Tensor) -> dict[str, dict]:
    """Measures the squares around the centre that hold ``SHARES`` of the response."""
    height, width = field.shape
    squares = {}
    for share in SHARES:
        side = square_side(field, share)
        area = min(side, height) * min(side, width) / (height * width)
        squares[f'{share:.0%}'] = dict(side=side, area_share=round(area, 4))
    return squares


def draw_fields(fields: dict[str, np.ndarray], squares: dict[str, dict], path: Path) -> None:
    """Draws maps side by side, each relative to its maximum, with one logarithmic colour scale.

    Args:
        fields: For each title the responses, (height, width).
        squares: For each title what :func:`measure_squares` gives.
        path: The PNG to write.
    """
    fields = {title: field / field.max() for title, field in fields.items()}
    lowest = min(field[field > 0].min() for field in fields.values())
    norm = LogNorm(max(lowest, DARKEST), 1)
    colors = plt.get_cmap('viridis').with_extremes(bad='black')  # no response: log of 0
    figure, axes = plt.subplots(
        1,
        len(fields),
        figsize=(0.9 + 4.2 * len(fields), 5.2),
        layout='constrained',
        squeeze=False,
    )
    for ax, (title, field) in zip(axes[0], fields.items(), strict=True):
        height, width = field.shape
        image = ax.imshow(
            np.ma.masked_equal(field, 0),
            cmap=colors,
            norm=norm,
            extent=(0, width, height, 0),
            interpolation='nearest',
        )
        for (share, square), style in zip(squares[title].items(), ('-', '--', ':'), strict=True):
            side = square['side']
            corner = (width - side) / 2, (height - side) / 2
            label = f'{share} of the response: {side} px'
            ax.add_patch(
                plt.Rectangle(
                    corner, side, side, fill=False, edgecolor='red', linestyle=style, label=label
                )
            )
        ax.set(title=title, xlabel='x in pixels', ylabel='y in pixels')
        ax.legend(loc='upper center', bbox_to_anchor=(0.5, -0.14), frameon=False, fontsize=9)
    figure.colorbar(
        image,
        ax=axes[0],
        shrink=0.75,
        label='response, largest = 1 (black: none)',
        extend='min' if lowest < DARKEST else 'neither',
    )
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(argv: list[str] | None = None) -> None:
    """Runs ``tools/analysis_tools/erf.py``."""
    args = parse_args(argv)
    if not (args.init or args.checkpoint):
        raise UserError('Give a CHECKPOINT, or --init for random weights, or both.')
    cfg, images, out = read_arguments(args)
    checkpoints = {'before training': None} if args.init else {}
    if args.checkpoint:
        checkpoints['after training'] = args.checkpoint
    fields, squares = {}, {}
    for title, checkpoint in checkpoints.items():
        backbone = build_backbone(cfg, checkpoint)
        if hasattr(backbone, 'out_type'):  # of mmwf and mmpretrain: classifiers have no map
            backbone.out_type = 'featmap'
        field = effective_receptive_field(backbone, images)
        fields[title], squares[title] = field.cpu().numpy(), measure_squares(field)
    out.parent.mkdir(parents=True, exist_ok=True)
    np.savez(out.with_suffix('.npz'), **{k.replace(' ', '_'): v for k, v in fields.items()})
    settings = dict(
        config=args.config, checkpoint=args.checkpoint, shape=images.shape, images=len(images)
    )
    mmengine.dump(dict(settings, squares=squares), out.with_suffix('.json'), indent=2)
    draw_fields(fields, squares, out)
    print(
        f'Smallest centred square that holds a share of the response, {len(images)} images of '
        f'{images.shape[0]} x {images.shape[1]}:'
    )
    for title, of_title in squares.items():
        for share, square in of_title.items():
            side, area = square['side'], square['area_share']
            print(f'  {title:<16}{share:>4}  {side:>5} px  {area:>6.1%} of the area')
    print(f'{out}, {out.with_suffix(".npz")}, {out.with_suffix(".json")}')
