"""YOLO's text files: a line ``class x y width height`` for each object, relative to the image.

A line with more numbers is a polygon: ``class x1 y1 x2 y2 ...``.
"""

from pathlib import Path

import yaml

from mmwf.errors import UserError

from .data import (
    OwnData,
    Split,
    clip_box,
    coco_content,
    image_size,
    list_images,
    median_size,
    outline,
    read_text,
    relative,
    require_images,
    require_objects,
    split_folder,
)


def _class_names(root: Path) -> list[str] | None:
    for path in (*sorted(root.glob('*.yaml')), *sorted(root.glob('*.yml'))):
        try:
            content = yaml.safe_load(read_text(path))
        except yaml.YAMLError as error:
            raise UserError(f'{path} is not valid YAML: {error}.') from error
        names = content.get('names') if isinstance(content, dict) else None
        if isinstance(names, dict):
            names = {str(key): name for key, name in names.items()}
            if {*names} != {*map(str, range(len(names)))}:
                raise UserError(
                    f'{path}: expected names with the keys 0 to {len(names) - 1}, got '
                    f'{", ".join(names)}.'
                )
            names = [names[str(label)] for label in range(len(names))]
        if isinstance(names, list):
            return [str(name) for name in names]
    for name in ('classes.txt', 'obj.names'):
        if (root / name).is_file():
            return read_text(root / name).split('\n')
    return None


def _folders(root: Path, split: str) -> tuple[Path, Path] | None:
    """Returns the folders of images and labels of a split."""
    images = split_folder(root / 'images', split)
    if images and (root / 'labels' / images.name).is_dir():
        return images, root / 'labels' / images.name
    folder = split_folder(root, split)
    if folder and (folder / 'images').is_dir() and (folder / 'labels').is_dir():
        return folder / 'images', folder / 'labels'
    return None


def _read(path: Path, size: tuple[int, int], classes: list[str]) -> list[dict]:
    """Reads the objects of an image of (height, width) pixels; none if there is no file."""
    objects = []
    lines = read_text(path).splitlines() if path.is_file() else []
    for number, line in enumerate(lines, 1):
        values = line.split()
        if not values:
            continue
        where = f'{path}, line {number}'
        try:
            label, numbers = int(values[0]), [float(value) for value in values[1:]]
        except ValueError:
            raise UserError(f'{where}: expected a class and numbers, got {line!r}.') from None
        if not 0 <= label < len(classes):
            raise UserError(f'{where}: class {label}, but there are {len(classes)} names.')
        if not all(-0.01 <= value <= 1.01 for value in numbers):
            raise UserError(f'{where}: expected numbers from 0 to 1, got {line!r}.')
        if len(numbers) == 4:
            x, y, w, h = (value * size[1 - i % 2] for i, value in enumerate(numbers))
            box = clip_box(x - w / 2, y - h / 2, x + w / 2, y + h / 2, size)
            objects.append(dict(category_id=label, bbox=box))
        elif len(numbers) >= 6 and len(numbers) % 2 == 0:
            points = [
                min(max(value, 0.0), 1.0) * size[1 - i % 2] for i, value in enumerate(numbers)
            ]
            objects.append(dict(outline(points), category_id=label))
        else:
            raise UserError(
                f'{where}: expected 4 numbers (a box) or at least 6 (a polygon), got {line!r}.'
            )
    return objects


def find(root: Path) -> OwnData | None:
    """Recognises ``images/SPLIT`` with ``labels/SPLIT``, or ``SPLIT/images`` with ``SPLIT/labels``.

    Raises:
        UserError: If names of classes or a split are missing, or a line cannot be read.
    """
    folders = {split: _folders(root, split) for split in ('train', 'val')}
    if not any(folders.values()):
        return None
    labels = [found[1] for found in folders.values() if found]
    if not any(path.suffix == '.txt' for folder in labels for path in folder.rglob('*.*')):
        return None  # label maps, perhaps
    for split, found in folders.items():
        if not found:
            raise UserError(f'{root} looks like YOLO, but has no images and labels for {split!r}.')
    classes = _class_names(root)
    if not classes:
        raise UserError(
            f'{root} looks like YOLO, but has no names of classes. Expected data.yaml with names:, '
            'or classes.txt with one name per line.'
        )
    classes = [name.strip() for name in classes if name.strip()]
    splits, objects = {}, []
    for split, (images, labels) in folders.items():
        paths, entries = list_images(images), []
        require_images(len(paths), images, split)
        for path in paths:
            size = image_size(path)
            found = _read(labels / path.relative_to(images).with_suffix('.txt'), size, classes)
            entries.append((relative(path, images), size, found))
            objects += found
        content = coco_content(classes, entries)
        splits[split] = Split(relative(images, root), len(paths), content=content)
        if split == 'train':
            require_objects(objects, root)
    return OwnData(
        'detection',
        'YOLO',
        root,
        tuple(classes),
        **splits,
        size=median_size(list_images(folders['train'][0])),
        has_masks=bool(objects) and all('segmentation' in item for item in objects),
    )
