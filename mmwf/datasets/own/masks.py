"""Label maps: for each image a PNG whose pixel values are the classes, as in ADE20K."""

from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from mmwf.errors import UserError

from .data import OwnData, Split, list_images, median_size, read_text, relative, split_folder

IGNORED = 255
#: Label maps that are read to find the classes, at most.
MAPS_READ = 2000
FOLDERS = (('images', 'annotations'), ('images', 'masks'), ('images', 'labels'))
FOLDERS += (('img_dir', 'ann_dir'),)


def _folders(root: Path) -> dict[str, tuple[Path, Path]] | None:
    """Returns the folders of images and label maps of both splits."""
    for images, maps in FOLDERS:
        pairs = {
            split: (split_folder(root / images, split), split_folder(root / maps, split))
            for split in ('train', 'val')
        }
        has_maps = pairs['train'][1] and next(pairs['train'][1].rglob('*.png'), None)
        if has_maps and all(all(pair) for pair in pairs.values()):
            return pairs
    return None


def _values(path: Path) -> set[int]:
    try:
        with Image.open(path) as image:
            array = np.asarray(image)
    except (OSError, SyntaxError) as error:  # Pillow's, for damaged PNGs
        raise UserError(f'Cannot read the label map {path}: {error}.') from error
    if array.ndim != 2:
        raise UserError(
            f'{path} has {array.shape[-1]} channels. Expected a label map: one channel whose '
            'values are the classes, 0, 1, 2, ..., and 255 where there is none.'
        )
    return set(np.unique(array).tolist())


def find(root: Path) -> OwnData | None:
    """Recognises ``images/SPLIT`` with ``annotations/SPLIT`` (or ``masks``, ``img_dir``, ...).

    Names of the classes are read from ``classes.txt``, one per line.

    Raises:
        UserError: If an image has no label map, or the names do not fit the values.
    """
    folders = _folders(root)
    if not folders:
        return None
    splits, pairs = {}, {}
    for split, (images, maps) in folders.items():
        paths = list_images(images)
        endings = Counter(path.suffix for path in paths)
        if len(endings) != 1:
            found = ', '.join(f'{n} {suffix}' for suffix, n in endings.items()) or 'none'
            raise UserError(f'Expected images of one format in {images}, got {found}.')
        pairs[split] = [
            (path, (maps / path.relative_to(images)).with_suffix('.png')) for path in paths
        ]
        for path, label_map in pairs[split]:
            if not label_map.is_file():
                raise UserError(f'The image {path} has no label map {label_map}.')
        splits[split] = Split(relative(images, root), len(paths), relative(maps, root))
    train = [label_map for _, label_map in pairs['train']]
    read = train[:: -(-len(train) // MAPS_READ)]
    values = sorted(set().union(*map(_values, read)) - {IGNORED})
    if len(values) < 2:
        raise UserError(
            f'Expected label maps of at least two classes in {root}, got the values '
            f'{", ".join(map(str, values)) or "none"} beside {IGNORED}, which is ignored. For '
            'background and one class: 0 and 1.'
        )
    notes = [f'{len(read)} of {len(train)} label maps were read.'] if len(read) < len(train) else []
    lines = read_text(root / 'classes.txt') if (root / 'classes.txt').is_file() else ''
    classes = [line.strip() for line in lines.splitlines() if line.strip()]
    zero_is_ignored = bool(classes) and values[-1] == len(classes)
    if not classes:
        classes = [f'class_{value}' for value in range(values[-1] + 1)]
        notes.append(
            f'There is no classes.txt: the classes are named {classes[0]} to {classes[-1]}.'
        )
    elif zero_is_ignored:
        notes.append('The values begin at 1, so 0 is taken for no class.')
    elif values[-1] > len(classes):
        raise UserError(
            f'classes.txt in {root} has {len(classes)} names, but the label maps have the value '
            f'{values[-1]}. Expected values below {len(classes)}, or up to {len(classes)} if 0 is '
            'no class.'
        )
    if len(classes) > IGNORED:
        raise UserError(f'Expected at most {IGNORED} classes, got {len(classes)}.')
    image, label_map = pairs['train'][0]
    other = pairs['val'][0][0]
    if other.suffix != image.suffix:
        raise UserError(
            f'Expected images of one format, got {image.suffix} for training and {other.suffix} '
            'for validation.'
        )
    return OwnData(
        'segmentation',
        'label maps',
        root,
        tuple(classes),
        **splits,
        size=median_size([path for path, _ in pairs['train']]),
        suffixes=(image.suffix, label_map.suffix),
        zero_is_ignored=zero_is_ignored,
        notes=notes,
    )
