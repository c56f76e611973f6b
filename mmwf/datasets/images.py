"""Image files, centre-cropped to squares as in ADM and DiT."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import Dataset

from mmwf.errors import UserError

IMAGE_SUFFIXES = ('.bmp', '.jpeg', '.jpg', '.png', '.ppm', '.tif', '.tiff', '.webp')
#: Pixels of the largest image that is decoded: 270 MB of memory, as 8-bit RGB. Pillow warns of
#: larger ones.
MAX_PIXELS = 89_478_485


def _too_large(path: str | Path, size: object, limit: int) -> UserError:
    return UserError(
        f'The image {path} is too large: {size}. Expected at most {limit:,} pixels. Cut it into '
        'parts or make it smaller.'
    )


@contextmanager
def _open(path: str | Path, limit: int) -> Iterator[Image.Image]:
    """Opens an image whose size, which its header states, is within the limit."""
    try:
        file = Image.open(path)  # warns of images above its limit, too
    except Image.DecompressionBombError as error:  # more than twice Pillow's limit
        raise _too_large(path, error, limit) from error
    with file:
        width, height = file.size
        if width * height > limit:
            raise _too_large(path, f'{width} x {height}', limit)
        yield file


def check_pixels(path: str | Path, limit: int = MAX_PIXELS) -> None:
    """Checks the size of an image by its header, since decoding a small file can fill the memory.

    Args:
        path: The image file; formats that Pillow does not know are not checked.
        limit: Largest number of pixels.

    Raises:
        UserError: If the image is larger.
        OSError: If there is no such file.
    """
    with suppress(UnidentifiedImageError), _open(path, limit):
        pass


def list_images(folder: str | Path) -> list[Path]:
    """Lists the images in a folder and below, sorted by path."""
    return sorted(p for p in Path(folder).rglob('*') if p.suffix.lower() in IMAGE_SUFFIXES)


def center_crop(image: Image.Image, size: int) -> Image.Image:
    """Resizes an image so that its shorter side is ``size``, and crops the central square.

    Resizing follows ADM and DiT: halved with a box filter as often as possible, then bicubic.
    """
    while min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = size / min(image.size)
    width, height = round(image.width * scale), round(image.height * scale)
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - size) // 2, (height - size) // 2
    return image.crop((left, top, left + size, top + size))


def read_square(path: str | Path, size: int, mode: str = 'RGB') -> Image.Image:
    """Reads an image file and crops it (see :func:`center_crop`).

    Args:
        path: The image file.
        size: Side of the square in pixels.
        mode: Pillow's mode, such as ``'RGB'`` or ``'L'``.

    Raises:
        UserError: If the file cannot be read as an image, or the image is too large.
    """
    try:
        with _open(path, MAX_PIXELS) as file:
            return center_crop(file.convert(mode), size)
    except UserError:
        raise
    except (OSError, SyntaxError, ValueError) as error:  # raised on damaged files
        raise UserError(
            f'Cannot read the image {path}: {error}. Repair or remove the file.'
        ) from error


class SquareImages(Dataset):
    """Image files as squares of one size (see :func:`center_crop`).

    Args:
        paths: The image files.
        size: Side of the squares in pixels.
    """

    def __init__(self, paths: Sequence[str | Path], size: int):
        self.paths = paths
        self.size = size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        """Reads an image, (3, size, size), uint8, RGB.

        Raises:
            UserError: If the file cannot be read as an image.
        """
        image = read_square(self.paths[index], self.size)
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)
