"""Writing figures."""

from pathlib import Path

from matplotlib.figure import Figure

from mmwf.files import atomic_write


def save_figure(figure: Figure, path: str | Path, **settings) -> None:
    """Writes a figure in the format of the file's suffix, PNG by default.

    Args:
        figure: The figure.
        path: The file.
        settings: Settings of ``Figure.savefig``.

    Raises:
        UserError: If the file cannot be written.
    """
    with atomic_write(path) as file:
        figure.savefig(file, format=Path(path).suffix[1:] or 'png', **settings)
