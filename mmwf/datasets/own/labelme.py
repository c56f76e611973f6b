"""labelme: a JSON file with polygons and rectangles beside each image."""

import json
from pathlib import Path

from mmwf.errors import UserError

from .data import (
    OwnData,
    Split,
    coco_content,
    hold_out,
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


def _shapes(path: Path) -> list | None:
    """Returns the shapes of a file of labelme; None if it is another one."""
    try:
        content = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise UserError(f'{path} is not valid JSON: {error}.') from error
    return content.get('shapes') if isinstance(content, dict) and 'imagePath' in content else None


def _read(path: Path, size: tuple[int, int]) -> list[tuple[str, dict]]:
    """Reads the objects of an image of (height, width) pixels, without what is outside of it."""
    objects = []
    for shape in _shapes(path) or []:
        try:
            kind, label = shape.get('shape_type') or 'polygon', str(shape['label'])
            points = [(float(x), float(y)) for x, y in shape['points']]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UserError(f'{path}: a shape has no label or points: {error}.') from error
        if kind == 'rectangle' and len(points) == 2:
            (x1, y1), (x2, y2) = points
            points = [(x1, y1), (x2, y1), (x2, y2), (x1, y2)]
        elif kind != 'polygon' or len(points) < 3:
            raise UserError(
                f'{path}: expected polygons and rectangles, got a {kind} of {len(points)} points '
                f'({label}). Redraw or remove it.'
            )
        inside = [min(max(value, 0), size[1 - i]) for xy in points for i, value in enumerate(xy)]
        objects.append((label, outline(inside)))
    return objects


def _annotated(folder: Path) -> list[Path]:
    """Returns the images that have a file of labelme."""
    paths = [path for path in list_images(folder) if path.with_suffix('.json').is_file()]
    return [path for path in paths if _shapes(path.with_suffix('.json')) is not None]


def find(root: Path) -> OwnData | None:
    """Recognises images with files of labelme, in ``train`` and ``val`` or in one folder.

    Raises:
        UserError: If a file has other shapes, or an object of a class that training has not.
    """
    folders = {split: split_folder(root, split) for split in ('train', 'val')}
    is_split = all(folders.values())
    if is_split:
        lists = {split: _annotated(folder) for split, folder in folders.items()}
    else:
        folders = dict.fromkeys(folders, root)
        lists = hold_out(_annotated(root))
    if not any(lists.values()):
        return None
    for split, paths in lists.items():
        require_images(len(paths), folders[split], split)
    sizes = {path: image_size(path) for paths in lists.values() for path in paths}
    found = {path: _read(path.with_suffix('.json'), size) for path, size in sizes.items()}
    classes = sorted({label for path in lists['train'] for label, _ in found[path]})
    require_objects(classes, root)
    splits = {}
    for split, paths in lists.items():
        entries = []
        for path in paths:
            unknown = [label for label, _ in found[path] if label not in classes]
            if unknown:
                raise UserError(f'{path}: no training image has an object of {unknown[0]!r}.')
            objects = [dict(item, category_id=classes.index(name)) for name, item in found[path]]
            entries.append((relative(path, folders[split]), sizes[path], objects))
        content = coco_content(classes, entries)
        splits[split] = Split(relative(folders[split], root), len(paths), content=content)
    return OwnData(
        'detection',
        'labelme',
        root,
        tuple(classes),
        **splits,
        size=median_size(lists['train']),
        has_masks=True,
        notes=[] if is_split else ['There is no split: every fifth image is held out.'],
    )
