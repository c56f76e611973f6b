"""Writing figures and pictures."""

from io import BytesIO
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from mmwf.datasets.images import IMAGE_SUFFIXES
from mmwf.files import atomic_write, write_bytes


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


def picture_name(name: str) -> str:
    """Returns the name of a drawing of a picture: its own, if that is a format we can write."""
    return name if Path(name).suffix.lower() in IMAGE_SUFFIXES else f'{name}.png'


def save_picture(path: str | Path, image: np.ndarray) -> None:
    """Writes an image in the format of the file's suffix.

    Args:
        path: The file, with one of the suffixes of :func:`picture_name`.
        image: RGB, (height, width, 3), uint8.

    Raises:
        UserError: If the file cannot be written.
    """
    image_format = Image.registered_extensions()[Path(path).suffix.lower()]
    settings = dict(quality=92) if image_format in ('JPEG', 'WEBP') else {}
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, image_format, **settings)
    write_bytes(path, buffer.getvalue(), sync=False)
