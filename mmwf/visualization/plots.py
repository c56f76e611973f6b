"""Plots of the analyses. Each function writes an image file and returns the matplotlib figure."""

import math
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from .saving import save_figure

DPI = 110
DARKEST = 1e-6  # lower end of the colour scale, relative to the largest response


def draw_receptive_fields(
    fields: dict[str, np.ndarray], squares: dict[str, dict], path: Path
) -> Figure:
    """Draws response maps side by side, each relative to its maximum, on one logarithmic scale.

    Args:
        fields: The responses (height, width) by title.
        squares: The result of :func:`mmwf.analysis.receptive_field.measure_squares` by title.
        path: The PNG to write.
    """
    fields = {title: field / field.max() for title, field in fields.items()}
    lowest = min(field[field > 0].min() for field in fields.values())
    norm = LogNorm(max(lowest, DARKEST), 1)
    colors = colormaps['viridis'].with_extremes(bad='black')  # no response: log of 0
    figure = Figure(figsize=(0.9 + 4.2 * len(fields), 5.2), layout='constrained')
    axes = figure.subplots(1, len(fields), squeeze=False)
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
                Rectangle(
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
    save_figure(figure, path, dpi=DPI)
    return figure


def draw_weight_strength(rows: list[dict], path: Path) -> Figure:
    """Draws weight strength against depth, one line per kind of layer.

    Args:
        rows: The result of :func:`mmwf.analysis.weight_strength.summarize`.
        path: The PNG to write.
    """
    figure = Figure(figsize=(6.4, 4), layout='constrained')
    ax = figure.subplots()
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
    save_figure(figure, path, dpi=DPI)
    return figure


def draw_curves(
    curves: dict[str, dict], keys: list[str], metrics: set[str], path: str | Path
) -> Figure:
    """Draws one panel per key with one line per run.

    Args:
        curves: By the name of the run and by key, the values by iteration.
        keys: The keys to draw.
        metrics: Keys with few values, drawn with markers.
        path: The image file to write; its folder is created.
    """
    columns = min(len(keys), 3)
    rows = math.ceil(len(keys) / columns)
    legend_rows = math.ceil(len(curves) / columns)
    size = (4 * columns + 0.5, 2.8 * rows + 0.3 * legend_rows)
    figure = Figure(figsize=size, layout='constrained')
    axes = figure.subplots(rows, columns, squeeze=False).flat
    for ax, key in zip(axes, keys, strict=False):
        for i, (name, run) in enumerate(curves.items()):
            points = sorted(run.get(key, {}).items())
            iterations, values = zip(*points, strict=True) if points else ((), ())
            style = dict(color=f'C{i % 10}', linestyle=('-', '--', ':')[i // 10 % 3], label=name)
            ax.plot(iterations, values, marker='o' if key in metrics else None, ms=4, **style)
        ax.set(title=key, xlabel='iteration')
        ax.grid(alpha=0.3)
    for ax in axes[len(keys) :]:
        ax.set_axis_off()
    handles = figure.axes[0].lines
    figure.legend(handles=handles, loc='outside lower center', ncols=columns)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    save_figure(figure, path, dpi=DPI)
    return figure


def draw_throughput(rows: list[dict], title: str, path: str | Path) -> Figure:
    """Draws speed and memory against the image size.

    Args:
        rows: Results of :func:`mmwf.analysis.throughput.measure`.
        title: Title of the figure, such as the settings and the machine.
        path: The image file to write.
    """
    figure = Figure(figsize=(10, 4.6), layout='constrained')
    panels = (
        ('images_per_second', 'throughput (images/s)'),
        ('memory_per_image_mib', 'peak memory (MiB per image)'),
    )
    sizes = sorted({row['size'] for row in rows})
    axes = figure.subplots(1, 2)
    for ax, (key, label) in zip(axes, panels, strict=True):
        for name in dict.fromkeys(row['model'] for row in rows):
            of_model = [row for row in rows if row['model'] == name]
            measured = [row for row in of_model if key in row]
            points = [row['size'] for row in measured], [row[key] for row in measured]
            failed = [row['size'] for row in of_model if 'error' in row]
            note = f' (out of memory at {", ".join(map(str, failed))})' if failed else ''
            ax.plot(*points, marker='o', label=name + note)
        ax.set(xlabel='image size (pixels)', ylabel=label, yscale='log', xticks=sizes)
        ax.tick_params(axis='x', rotation=45 if len(sizes) > 6 else 0)
        ax.grid(alpha=0.3)
    figure.legend(handles=axes[0].lines, loc='outside lower center', ncols=2, fontsize=9)
    figure.suptitle(title, fontsize=10)
    save_figure(figure, path, dpi=DPI)
    return figure
