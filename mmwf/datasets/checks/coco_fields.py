"""Checks of each entry of a file in COCO's format: its fields, their types, and sizes."""

import math
import os
from numbers import Real
from pathlib import Path

from mmwf.datasets.images import MAX_PIXELS
from mmwf.errors import UserError


def _is_id(value) -> bool:
    return isinstance(value, (int, str)) and not isinstance(value, bool)


def _is_number(value) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _is_size(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_numbers(value) -> bool:
    return isinstance(value, list) and all(map(_is_number, value))


def _is_segmentation(value) -> bool:
    """Whether these are polygons, each of at least three points, or an RLE mask."""
    if isinstance(value, dict):
        size, counts = value.get('size'), value.get('counts')
        if not (isinstance(size, list) and len(size) == 2 and all(map(_is_size, size))):
            return False
        if isinstance(counts, str):
            return True
        is_list = _is_numbers(counts) and all(isinstance(n, int) and n >= 0 for n in counts)
        return is_list and sum(counts) == math.prod(size)
    if not isinstance(value, list):
        return False
    return all(_is_numbers(part) and len(part) >= 6 and len(part) % 2 == 0 for part in value)


#: What each field must be, and how that is called.
TYPES = {
    'id': (_is_id, 'a number or a string'),
    'image_id': (_is_id, 'a number or a string'),
    'category_id': (_is_id, 'a number or a string'),
    'file_name': (lambda value: isinstance(value, str) and value, 'a file name'),
    'name': (lambda value: isinstance(value, str), 'a string'),
    'height': (_is_size, 'a positive integer'),
    'width': (_is_size, 'a positive integer'),
    'bbox': (lambda value: _is_numbers(value) and len(value) == 4, '[x, y, width, height]'),
    'area': (_is_number, 'a number'),
    'iscrowd': (lambda value: type(value) is int and value in (0, 1), '0 or 1'),
    'segmentation': (_is_segmentation, 'polygons or RLE: {"size": [height, width], "counts": ...}'),
    'segments_info': (lambda value: isinstance(value, list), 'a list'),
}


def check_entries(loader: str, path: Path, kind: str, entries, fields: set[str]) -> None:
    """Checks that each entry has these fields, and that all known fields have the right types.

    Args:
        loader: Name of the data loader.
        path: The file.
        kind: ``'images'``, ``'categories'`` or ``'annotations'``.
        entries: The entries.
        fields: The required fields.

    Raises:
        UserError: If a field is missing or wrong; the message names the entry.
    """
    if not isinstance(entries, list):
        raise UserError(
            f'{loader}: expected a list of {kind} in {path}, got a {type(entries).__name__}.'
        )
    for number, entry in enumerate(entries, 1):
        if not isinstance(entry, dict):
            raise UserError(
                f'{loader}: entry {number} of the {kind} in {path} is a {type(entry).__name__}. '
                f'Expected an object with {", ".join(sorted(fields))}.'
            )
        missing = fields - entry.keys()
        if entry.get('segmentation') == []:
            missing |= fields & {'segmentation'}
        if missing:
            raise UserError(
                f'{loader}: entry {number} of the {kind} in {path} has no '
                f'{", no ".join(sorted(missing))}. Expected {", ".join(sorted(fields))}.'
            )
        for field in fields:
            is_right, expected = TYPES.get(field, (lambda value: True, ''))
            if not is_right(entry[field]):
                raise UserError(
                    f'{loader}: {field} of entry {number} of the {kind} in {path} is '
                    f'{str(entry[field])[:100]!r}. Expected {expected}.'
                )


def check_sizes(where: str, content: dict) -> None:
    """Checks that no image is too large, and that each RLE mask is of the size of its image.

    Args:
        where: The data loader and the file, for messages.
        content: The file, with entries that :func:`check_entries` has checked.

    Raises:
        UserError: If one is.
    """
    sizes = {}
    for image in content['images']:
        sizes[image['id']] = [image['height'], image['width']]
        if image['height'] * image['width'] > MAX_PIXELS:
            raise UserError(
                f'{where}: {image["file_name"]} is {image["width"]} x {image["height"]} pixels. '
                f'Expected at most {MAX_PIXELS:,} pixels; cut larger images into parts.'
            )
    for annotation in content.get('annotations', ()):
        mask, size = annotation.get('segmentation'), sizes.get(annotation['image_id'])
        if isinstance(mask, dict) and size is not None and mask.get('size') != size:
            raise UserError(
                f'{where}: the mask of annotation {annotation["id"]} has the size '
                f'{mask.get("size")}, but its image {size} (height, width).'
            )


def check_inside(where: str, root: str | Path, path: str | Path) -> None:
    """Checks that a path named by data is in the folder of the data; links are not followed.

    Args:
        where: The data loader and the file, for messages.
        root: The folder.
        path: The path.

    Raises:
        UserError: If it is elsewhere.
    """
    inside, outside = os.path.abspath(root), os.path.abspath(path)
    if os.path.commonpath([inside, outside]) != inside:
        raise UserError(
            f'{where} names the file {path}, outside of the folder of the data, {root}. Expected '
            'paths below it. If the file is to be trusted, set allow_paths_outside=True in the '
            'config.'
        )
