"""Checks of what COCO's panoptic format adds: segments of both kinds, and a map for each image."""

import os
from pathlib import Path

import numpy as np
from PIL import Image

from mmwf.datasets.images import check_pixels
from mmwf.errors import UserError
from mmwf.panopticapi import rgb2id

from .coco_fields import check_entries

NUM_MAPS = 10  # evenly spaced, that are read
#: The fields of an image's entry in ``annotations``.
FIELDS = {'image_id', 'file_name', 'segments_info'}


def flatten_segments(loader: str, path: Path, content: dict) -> dict:
    """Makes each segment an annotation, so that the checks of instances apply to them.

    Args:
        loader: Name of the data loader.
        path: The annotation file.
        content: Its content.

    Returns:
        ``content`` with the segments of all images as ``annotations``.

    Raises:
        UserError: If an entry of the annotations or categories lacks a field.
    """
    for kind, fields in (('annotations', FIELDS), ('categories', {'isthing'})):
        try:
            check_entries(loader, path, kind, content.get(kind, []), fields)
        except UserError as error:
            raise UserError(f"{error} Is the file in COCO's panoptic format?") from error
    for entry in content.get('annotations', ()):
        check_entries(loader, path, 'segments_info', entry['segments_info'], {'id'})
    segments = [
        dict(segment, image_id=entry['image_id'])
        for entry in content.get('annotations', ())
        for segment in entry['segments_info']
    ]
    return dict(content, annotations=segments)


def count_things(loader: str, path: Path, content: dict, classes: list[str]) -> int:
    """Counts the classes of things.

    Raises:
        UserError: If a class of stuff precedes one of things. To mmdet's heads, the first classes
            are the things.
    """
    is_thing = [bool(c['isthing']) for c in content['categories'] if c['name'] in classes]
    if sorted(is_thing, reverse=True) != is_thing:
        raise UserError(
            f'{loader}: in {path}, a category of stuff precedes one of things. Sort the '
            'categories: things (isthing=1) first.'
        )
    return sum(is_thing)


def check_maps(loader: str, dataset: dict, path: Path, content: dict) -> None:
    """Checks that each image has a map, and that some maps contain the segments of the file.

    Args:
        loader: Name of the data loader.
        dataset: Config of the dataset.
        path: The annotation file.
        content: Its content, from :func:`flatten_segments`.

    Raises:
        UserError: If the folder or a map does not exist, or a map cannot be read, is not of the
            size of its image, or lacks a segment.
    """
    folder = (dataset.get('data_prefix') or {}).get('seg')
    if not folder:
        raise UserError(
            f'{loader}: expected dataset.data_prefix.seg, the folder of the maps of {path}.'
        )
    folder = Path(dataset.get('data_root') or '') / folder
    if not folder.is_dir():
        raise UserError(f'{loader}: there is no folder {folder} with the panoptic maps of {path}.')
    images, names = content['images'], {entry.name for entry in os.scandir(folder)}
    # mmdet derives the name of the map from that of the image.
    maps = [image['file_name'].replace('.jpg', '.png') for image in images]
    missing = [name for name in maps if name not in names]
    if missing:
        raise UserError(
            f'{loader}: {len(missing)} of the {len(maps)} panoptic maps of {path} do not exist, '
            f'such as {folder / missing[0]}.'
        )
    number = min(NUM_MAPS, len(images))
    for i in (k * len(images) // number for k in range(number)):
        segments = [s for s in content.get('annotations', ()) if s['image_id'] == images[i]['id']]
        _check_map(loader, folder / maps[i], images[i], segments)


def _check_map(loader: str, path: Path, image: dict, segments: list[dict]) -> None:
    try:
        check_pixels(path)
        colors = np.asarray(Image.open(path).convert('RGB'))
    except UserError:
        raise
    except (OSError, SyntaxError, ValueError) as error:  # raised on damaged files
        raise UserError(f'{loader}: cannot read {path}: {error}') from error
    if colors.shape[:2] != (image['height'], image['width']):
        raise UserError(
            f'{loader}: {path} is {colors.shape[0]} x {colors.shape[1]}, but its image is '
            f'{image["height"]} x {image["width"]} (height x width).'
        )
    absent = {segment['id'] for segment in segments} - set(np.unique(rgb2id(colors)).tolist())
    if absent:
        raise UserError(
            f'{loader}: {path} has no pixel of segment {min(absent)} of its image. Expected the '
            'colours of the map to be the ids of the segments: id = red + 256 green + 256^2 blue.'
        )
