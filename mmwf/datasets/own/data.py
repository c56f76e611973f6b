"""What is known about own data, and what the layouts share."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from mmwf.errors import UserError

IMAGES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp', '.tif', '.tiff')
#: Names of folders and files of the two splits.
SPLITS = dict(
    train=('train', 'training', 'train2017'),
    val=('val', 'valid', 'validation', 'val2017', 'test'),
)
#: Of data without a split, every fifth image is for validation.
HOLD_OUT = 5


@dataclass
class Split:
    """The training or the validation part.

    Attributes:
        images: Folder of the images, relative to the data's root.
        number: Number of images.
        annotations: Annotation file or folder, relative to the data's root.
        content: What to write to an annotation file if there is none in the right form: a COCO
            dictionary, or a list of lines.
    """

    images: str
    number: int
    annotations: str | None = None
    content: dict | list[str] | None = None


@dataclass
class OwnData:
    """A folder of own data.

    Attributes:
        task: ``'classification'``, ``'detection'`` or ``'segmentation'``.
        layout: Name of the layout.
        root: The folder.
        classes: Names of the classes in the order of their labels.
        train, val: The two splits.
        size: Median height and width of the training images, in pixels.
        has_masks: Detection: whether each object has a mask.
        suffixes: Segmentation: how names of images and of label maps end.
        zero_is_ignored: Segmentation: whether the value 0 stands for no class.
        notes: What the user should know.
    """

    task: str
    layout: str
    root: Path
    classes: tuple[str, ...]
    train: Split
    val: Split
    size: tuple[int, int]
    has_masks: bool = False
    suffixes: tuple[str, str] = ('.jpg', '.png')
    zero_is_ignored: bool = False
    notes: list[str] = field(default_factory=list)


def image_size(path: Path) -> tuple[int, int]:
    """Returns height and width of an image as it is shown, after the rotation that EXIF asks for.

    Raises:
        UserError: If it cannot be read.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            rotated = image.getexif().get(0x0112, 1) >= 5
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise UserError(f'Cannot read the image {path}: {error}.') from error
    return (width, height) if rotated else (height, width)


def read_text(path: Path) -> str:
    """Reads a text file.

    Raises:
        UserError: If it cannot be read or is not UTF-8.
    """
    try:
        return path.read_text(encoding='utf-8-sig')
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f'Cannot read {path}: {error}.') from error


def median_size(paths: Sequence[Path]) -> tuple[int, int]:
    """Returns the median height and width of at most 50 images, evenly chosen."""
    sizes = [image_size(path) for path in paths[:: max(len(paths) // 50, 1)]]
    heights, widths = (sorted(values) for values in zip(*sizes, strict=True))
    return heights[len(heights) // 2], widths[len(widths) // 2]


def list_images(folder: Path) -> list[Path]:
    """Returns the images in a folder and its sub-folders, sorted."""
    return sorted(
        path
        for path in folder.rglob('*')
        if path.suffix.lower() in IMAGES and not is_hidden(path, folder) and path.is_file()
    )


def is_hidden(path: Path, folder: Path) -> bool:
    """Whether a path in a folder has a name that begins with a dot, as ``.cache/1.jpg``."""
    return any(part.startswith('.') for part in path.relative_to(folder).parts)


def split_folder(parent: Path, split: str) -> Path | None:
    """Returns the folder of a split, if there is one."""
    return next((parent / name for name in SPLITS[split] if (parent / name).is_dir()), None)


def hold_out(items: Sequence) -> dict[str, list]:
    """Divides items without a split: every fifth is for validation."""
    return dict(
        train=[item for i, item in enumerate(items) if i % HOLD_OUT],
        val=list(items[::HOLD_OUT]),
    )


def relative(path: Path, root: Path) -> str:
    """Returns a path relative to a folder, with forward slashes; '' for the folder itself."""
    name = Path(os.path.relpath(path, root)).as_posix()
    return '' if name == '.' else name


def coco_content(classes: Sequence[str], images: Iterable[tuple[str, tuple, list]]) -> dict:
    """Makes annotations in COCO's form.

    Args:
        classes: Names of the classes.
        images: For each image its name, its (height, width), and its objects as dictionaries with
            ``category_id`` (from 0), ``bbox`` as (x, y, width, height) in pixels and, if there are
            masks, ``segmentation``.
    """
    content = dict(
        images=[],
        annotations=[],
        categories=[dict(id=i, name=name) for i, name in enumerate(classes)],
    )
    for image_id, (name, (height, width), objects) in enumerate(images):
        content['images'].append(dict(id=image_id, file_name=name, height=height, width=width))
        for item in objects:
            number = len(content['annotations'])
            area = item['bbox'][2] * item['bbox'][3]
            content['annotations'].append(
                dict(dict(id=number, image_id=image_id, iscrowd=0, area=area), **item)
            )
    return content


def outline(points: Sequence[float]) -> dict:
    """Returns ``bbox`` and ``segmentation`` of a polygon x1, y1, x2, y2, ... in pixels."""
    xs, ys = points[::2], points[1::2]
    box = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
    return dict(bbox=box, segmentation=[list(points)])


def clip_box(x1: float, y1: float, x2: float, y2: float, size: tuple[int, int]) -> list[float]:
    """Returns (x, y, width, height) of a box after cutting off what is outside of the image."""
    x1, x2 = (min(max(x, 0), size[1]) for x in (x1, x2))
    y1, y2 = (min(max(y, 0), size[0]) for y in (y1, y2))
    return [x1, y1, x2 - x1, y2 - y1]


def require_images(number: int, folder: Path, split: str) -> None:
    """Raises a UserError if a split has no images."""
    if not number:
        raise UserError(f'{folder} has no annotated images for the split {split!r}.')


def require_objects(classes: Sequence[str], root: Path) -> None:
    """Raises a UserError if no training image has an object of any class."""
    if not classes:
        raise UserError(f'The annotations for training in {root} have no objects.')
