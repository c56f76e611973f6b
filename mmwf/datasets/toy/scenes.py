"""Scenes for detection and segmentation: scanned digits pasted on photographs.

All images are files inside scikit-learn and scikit-image; nothing is downloaded. The training and
validation scenes have no digit and no photograph in common.

Shapes: a scene has h x w pixels.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import cv2
import numpy as np
from pycocotools import mask as rle
from skimage.measure import find_contours

from mmwf.files import write_text

from .digits import split_digits, write_image

CLASSES = tuple('0123456789')
IGNORE_INDEX = 255
PHOTOGRAPHS = {
    'train': [
        (
            'skimage.data',
            ['astronaut.png', 'brick.png', 'camera.png', 'chelsea.png', 'coins.png', 'grass.png']
            + ['motorcycle_left.png'],
        ),
        ('sklearn.datasets.images', ['flower.jpg']),
    ],
    'val': [
        ('skimage.data', ['coffee.png', 'gravel.png', 'rocket.jpg']),
        ('sklearn.datasets.images', ['china.jpg']),
    ],
}
NUM_SCENES = {'train': 1200, 'val': 100}
SIDES = 88, 128  # smallest and largest height and width
DIGIT_HEIGHTS = 26, 44
DIGIT_COLORS = 180, 255  # in each channel
NUM_DIGITS = 4, 7
MAX_ANGLE = 10
CROWD_SHARE = 0.15  # share of the scenes with a crowd
CROWD_HEIGHTS = 12, 16
CROWD_DIGITS = 5, 9
MIN_VISIBLE = 0.8  # share of each digit that stays visible
DIMMING = 0.15, 0.4  # factor on photographs, so that digits are brighter than their background
MIN_CONTRAST = 40  # distance of the colours (0 to 255) of a digit and its background
PLACE_TRIES = 20


@dataclass
class Instance:
    """A digit in a scene, or a crowd of small ones.

    Attributes:
        digit: 0 to 9.
        mask: Its visible pixels, (h, w), bool.
        is_crowd: Whether it is a crowd of this digit.
    """

    digit: int
    mask: np.ndarray
    is_crowd: bool


@dataclass
class Scene:
    """An image and the objects in it.

    Attributes:
        image: (h, w, 3), uint8, BGR.
        instances: The objects, back to front; their masks do not overlap.
        soft: Pixels on soft edges, part digit and part background, (h, w), bool.
    """

    image: np.ndarray
    instances: list[Instance]
    soft: np.ndarray

    def index_map(self) -> np.ndarray:
        """Returns the label of each pixel, (h, w), uint8: 0 for the background, d + 1 for digit d,
        ``IGNORE_INDEX`` on crowds and soft edges."""
        labels = np.zeros(self.soft.shape, np.uint8)
        for instance in self.instances:
            labels[instance.mask] = IGNORE_INDEX if instance.is_crowd else instance.digit + 1
        labels[self.soft] = IGNORE_INDEX
        return labels


def read_photographs(split: str) -> list[np.ndarray]:
    """Reads the photographs of ``'train'`` or ``'val'``, each (h, w, 3), uint8, BGR.

    Raises:
        FileNotFoundError: If one is missing from the installed scikit-image or scikit-learn.
    """
    paths = [files(package) / name for package, names in PHOTOGRAPHS[split] for name in names]
    for path in paths:
        if not path.is_file():
            raise FileNotFoundError(
                f'There is no file {path}. Install the versions in requirements/constraints.txt.'
            )
    return [cv2.imread(str(path), cv2.IMREAD_COLOR) for path in paths]


def _crop(rng: np.random.Generator, photograph: np.ndarray) -> np.ndarray:
    """Crops a photograph at random to the background of a scene, and dims it."""
    h, w = rng.integers(SIDES[0], SIDES[1], size=2, endpoint=True)
    scale = rng.uniform(1, max(1, min(3, photograph.shape[0] / h, photograph.shape[1] / w)))
    height, width = int(h * scale), int(w * scale)
    y = rng.integers(photograph.shape[0] - height, endpoint=True)
    x = rng.integers(photograph.shape[1] - width, endpoint=True)
    crop = photograph[y : y + height, x : x + width]
    crop = cv2.resize(crop, (int(w), int(h)), interpolation=cv2.INTER_AREA)
    return rng.uniform(*DIMMING) * crop


def _opacity(
    rng: np.random.Generator,
    scan: np.ndarray,
    height: float,
    center: Sequence[float],
    shape: Sequence[int],
) -> np.ndarray:
    """Draws a scan, enlarged and rotated at random, into an empty scene.

    Args:
        rng: Random number generator.
        scan: (8, 8), uint8.
        height: Height of the digit in pixels.
        center: Position (x, y) of its centre.
        shape: Size (h, w) of the scene.

    Returns:
        Opacity (h, w), float32, in [0, 1]; an edge is about two pixels wide.
    """
    angle = rng.uniform(-MAX_ANGLE, MAX_ANGLE)
    scale = height / len(scan)
    middle = (len(scan) - 1) / 2
    matrix = cv2.getRotationMatrix2D((middle, middle), angle, scale)
    matrix[:, 2] += np.asarray(center) - middle
    ink = cv2.warpAffine(scan, matrix, tuple(shape)[::-1], flags=cv2.INTER_CUBIC)
    # Sharpens the edges, which enlarging has blurred.
    return np.clip((ink / 255 - 0.45) * max(1.5, 0.6 * scale) + 0.5, 0, 1).astype(np.float32)


def _contrasting_color(rng: np.random.Generator, behind: np.ndarray) -> np.ndarray:
    """Draws a bright colour (3,) that differs from ``behind`` (3,) by ``MIN_CONTRAST``."""
    while True:
        color = rng.uniform(*DIGIT_COLORS, size=3)
        if np.linalg.norm(color - behind) >= MIN_CONTRAST:
            return color


class _Canvas:
    """A scene to paste digits on."""

    def __init__(self, background: np.ndarray):
        self.image = background.astype(np.float32)
        self.shape = background.shape[:2]
        self.owner = np.full(self.shape, -1)  # index of the instance on top
        self.soft = np.zeros(self.shape, bool)
        self.kinds: list[tuple[int, bool]] = []  # digit, is_crowd
        self.areas: list[int] = []  # when pasted, in pixels

    def paste(
        self, rng: np.random.Generator, opacity: np.ndarray, digit: int, is_crowd: bool = False
    ) -> bool:
        """Pastes an instance in a random colour, unless it would hide too much of another one.

        Returns:
            Whether it was pasted.
        """
        mask = opacity >= 0.5
        left = np.bincount(self.owner[(self.owner >= 0) & ~mask], minlength=len(self.areas))
        if not mask.any() or (left < MIN_VISIBLE * np.array(self.areas)).any():
            return False
        color = _contrasting_color(rng, self.image[mask].mean(axis=0))
        self.image += opacity[..., None] * (color - self.image)
        self.owner[mask] = len(self.areas)
        self.areas.append(int(mask.sum()))
        self.kinds.append((digit, is_crowd))
        self.soft = np.where(opacity > 0.75, False, self.soft | (opacity > 0.25))
        return True

    def scene(self) -> Scene:
        instances = [
            Instance(digit, self.owner == i, is_crowd)
            for i, (digit, is_crowd) in enumerate(self.kinds)
        ]
        return Scene(np.round(self.image).astype(np.uint8), instances, self.soft)


def _crowd_opacity(rng: np.random.Generator, scans: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Draws a cluster of small digits into an empty scene; returns the opacity (h, w)."""
    number = rng.integers(*CROWD_DIGITS, endpoint=True)
    radius = 24
    h, w = shape
    middle = rng.uniform(radius + 8, [w - radius - 8, h - radius - 8])
    layers = []
    for scan in scans[rng.integers(len(scans), size=number)]:
        center = middle + rng.uniform(-radius, radius, size=2)
        layers.append(_opacity(rng, scan, rng.uniform(*CROWD_HEIGHTS), center, shape))
    return np.max(layers, axis=0)


def make_scene(
    rng: np.random.Generator,
    photographs: Sequence[np.ndarray],
    scans: np.ndarray,
    digits: np.ndarray,
) -> Scene:
    """Makes a random scene.

    Args:
        rng: Random number generator.
        photographs: Images to crop the background from, each (height, width, 3), uint8.
        scans: Digits to choose from, (n, 8, 8), uint8.
        digits: Their labels, (n,).
    """
    canvas = _Canvas(_crop(rng, photographs[rng.integers(len(photographs))]))
    h, w = canvas.shape
    if rng.random() < CROWD_SHARE:
        digit = int(rng.integers(len(CLASSES)))
        opacity = _crowd_opacity(rng, scans[digits == digit], canvas.shape)
        canvas.paste(rng, opacity, digit, is_crowd=True)
    for _ in range(rng.integers(*NUM_DIGITS, endpoint=True)):
        index = rng.integers(len(scans))
        # Log-uniform: small digits are more frequent, like objects in photographs.
        height = np.exp(rng.uniform(*np.log(DIGIT_HEIGHTS)))
        for _ in range(PLACE_TRIES):
            center = rng.uniform(height * 0.6, [w - height * 0.6, h - height * 0.6])
            opacity = _opacity(rng, scans[index], height, center, canvas.shape)
            if canvas.paste(rng, opacity, int(digits[index])):
                break
    return canvas.scene()


def make_scenes(split: str, count: int, seed: int = 0) -> Iterator[Scene]:
    """Yields the first ``count`` scenes of a split; the same seed gives the same scenes.

    Args:
        split: ``'train'`` or ``'val'``.
        count: Number of scenes.
        seed: Seed of the scenes and of the split of the digits.
    """
    photographs = read_photographs(split)
    scans, digits = split_digits(seed)[split]
    for index in range(count):
        rng = np.random.default_rng([seed, list(PHOTOGRAPHS).index(split), index])
        yield make_scene(rng, photographs, scans, digits)


def encode_rle(mask: np.ndarray) -> dict:
    """Encodes a mask (h, w), bool, as a COCO run-length encoding for JSON."""
    run_lengths = rle.encode(np.asfortranarray(mask, np.uint8))
    return dict(run_lengths, counts=run_lengths['counts'].decode())


def encode_mask(mask: np.ndarray) -> list | dict:
    """Encodes a mask in COCO's format: a polygon, or an RLE if it has holes or several parts.

    Args:
        mask: (h, w), bool.

    Returns:
        ``[[x, y, x, y, ...]]`` or ``{'size': [h, w], 'counts': ...}``; both decode to ``mask``.
    """
    contours = find_contours(np.pad(mask, 1).astype(float), 0.5, fully_connected='high')
    if len(contours) == 1:
        # From (row, column) between centres of padded pixels to (x, y) between corners, as in COCO.
        polygon = [(contours[0][:-1, ::-1] - 0.5).ravel().tolist()]
        if np.array_equal(rle.decode(rle.frPyObjects(polygon, *mask.shape))[..., 0], mask):
            return polygon
    return encode_rle(mask)


def _annotation(instance: Instance) -> dict:
    """Returns a COCO annotation without ``id`` and ``image_id``."""
    rows, columns = (np.flatnonzero(instance.mask.any(axis=axis)) for axis in (1, 0))
    x, y = int(columns[0]), int(rows[0])
    encode = encode_rle if instance.is_crowd else encode_mask
    return dict(
        category_id=instance.digit + 1,
        bbox=[x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y],
        segmentation=encode(instance.mask),
        area=int(instance.mask.sum()),
        iscrowd=int(instance.is_crowd),
    )


def write_coco(root: str | Path, split: str, scenes: Iterable[Scene]) -> int:
    """Writes scenes in COCO's layout: ``SPLIT/INDEX.jpg`` and
    ``annotations/instances_SPLIT.json``.

    Args:
        root: Output folder. Existing files are overwritten.
        split: ``'train'`` or ``'val'``.
        scenes: The scenes.

    Returns:
        Number of scenes written.
    """
    root, images, annotations = Path(root), [], []
    for image_id, scene in enumerate(scenes, 1):
        name = f'{image_id:06d}.jpg'
        height, width = scene.soft.shape
        write_image(root / split / name, scene.image)
        images.append(dict(id=image_id, file_name=name, height=height, width=width))
        for instance in scene.instances:
            annotation_id = len(annotations) + 1
            annotations.append(dict(id=annotation_id, image_id=image_id, **_annotation(instance)))
    categories = [
        dict(id=d + 1, name=name, supercategory='digit') for d, name in enumerate(CLASSES)
    ]
    content = dict(
        info=dict(description='Scanned digits on photographs'),
        images=images,
        annotations=annotations,
        categories=categories,
    )
    write_text(root / 'annotations' / f'instances_{split}.json', json.dumps(content))
    return len(images)


def write_ade20k(root: str | Path, split: str, scenes: Iterable[Scene]) -> int:
    """Writes scenes in ADE20K's layout: ``images/{training,validation}/INDEX.jpg`` and their
    index maps ``annotations/{training,validation}/INDEX.png``.

    Args:
        root, split, scenes: As in :func:`write_coco`.

    Returns:
        Number of scenes written.
    """
    root, folder = Path(root), {'train': 'training', 'val': 'validation'}[split]
    count = 0
    for count, scene in enumerate(scenes, 1):
        write_image(root / 'images' / folder / f'{count:06d}.jpg', scene.image)
        write_image(root / 'annotations' / folder / f'{count:06d}.png', scene.index_map())
    return count


WRITERS = {'coco': write_coco, 'ade20k': write_ade20k}


def write_scenes(
    root: str | Path,
    formats: Iterable[str] = ('coco', 'ade20k'),
    num_scenes: Mapping[str, int] = NUM_SCENES,
    seed: int = 0,
) -> dict[str, int]:
    """Writes the same scenes in one or both layouts, each to a folder ``root/FORMAT``.

    Args:
        root: Output folder.
        formats: Any of ``'coco'`` and ``'ade20k'``.
        num_scenes: Number of scenes by split.
        seed: As in :func:`make_scenes`.

    Returns:
        Number of scenes by split.
    """
    for name in formats:
        for split, count in num_scenes.items():
            WRITERS[name](Path(root) / name, split, make_scenes(split, count, seed))
    return dict(num_scenes)
