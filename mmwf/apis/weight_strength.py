"""``tools/analysis_tools/weight_strength.py``: draws the weight strength against the depth."""

import argparse
import csv
import re
from pathlib import Path

import matplotlib
from torch import Tensor

from mmwf.analysis.weight_strength import dynamic_layers, measure_weight_strength

from .analysis import add_arguments, build_backbone, read_arguments
from .environment import UserError

matplotlib.use('Agg')
from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.ticker import MaxNLocator  # noqa: E402


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Draw how strong the predicted weights are beside the static ones, '
        '||dW||_F / ||W0||_F, against the depth.'
    )
    parser.add_argument('config', help='config file')
    parser.add_argument(
        'checkpoint', nargs='?', help='checkpoint file; without one, the weights are random'
    )
    add_arguments(parser)
    parser.add_argument(
        '--out', required=True, metavar='FILE.png', help='picture; the figures go to FILE.csv'
    )
    return parser.parse_intermixed_args(argv)  # options may stand between the two files


def summarize(strength: dict[str, Tensor]) -> list[dict]:
    """Computes a row for each layer.

    Args:
        strength: Ratios (number of images,) of layers named ``blocks.INDEX.LAYER``.

    Returns:
        Dicts with the block's index, the layer, and mean and standard deviation over the images.
    """
    rows = []
    for name, ratios in strength.items():
        block, layer = re.fullmatch(r'blocks\.(\d+)\.(.+)', name).groups()
        mean, std = ratios.mean().item(), ratios.std(correction=0).item()
        rows.append(dict(block=int(block), layer=layer, mean=mean, std=std))
    return rows


def draw_strength(rows: list[dict], path: Path) -> None:
    """Draws the rows of :func:`summarize`, a line for each kind of layer, to a PNG."""
    figure, ax = plt.subplots(figsize=(6.4, 4), layout='constrained')
    for layer in dict.fromkeys(row['layer'] for row in rows):
        blocks, means, stds = zip(
            *((r['block'], r['mean'], r['std']) for r in rows if r['layer'] == layer), strict=True
        )
        ax.errorbar(blocks, means, stds, marker='o', capsize=4, label=layer)
    ax.set(xlabel='block (0 is the first)', ylabel=r'$\|\Delta W\|_F\ /\ \|W_0\|_F$')
    ax.set_title('Weight strength: mean and standard deviation over the images', fontsize=10)
    ax.set_ylim(bottom=0)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.grid(alpha=0.3)
    ax.legend()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(argv: list[str] | None = None) -> None:
    """Runs ``tools/analysis_tools/weight_strength.py``."""
    args = parse_args(argv)
    cfg, images, out = read_arguments(args)
    backbone = build_backbone(cfg, args.checkpoint)
    if not dynamic_layers(backbone):
        raise UserError(f'The backbone of {args.config} has no dynamic layers.')
    rows = summarize(measure_weight_strength(backbone, images))
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.with_suffix('.csv').open('w', newline='') as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    draw_strength(rows, out)
    print(
        f'||dW||_F / ||W0||_F with {args.checkpoint or "random weights"}, '
        f'mean and standard deviation over {len(images)} images:'
    )
    for row in rows:
        print(f'  block {row["block"]:>2}  {row["layer"]:<8}{row["mean"]:>9.3g} ± {row["std"]:.2g}')
    print(f'{out}, {out.with_suffix(".csv")}')
