"""Annotations in COCO's format, written by COCO itself, Roboflow, CVAT, Label Studio and others."""

import json
from pathlib import Path, PurePath

from mmwf.errors import UserError

from .data import (
    SPLITS,
    OwnData,
    Split,
    hold_out,
    image_size,
    is_hidden,
    median_size,
    read_text,
    relative,
    require_images,
    require_objects,
)

KEYS = ('images', 'annotations', 'categories')


def _annotation_files(root: Path) -> dict[Path, dict]:
    """Returns the contents of the COCO files in the folder, its sub-folders and ``annotations``."""
    found = {}
    for path in (*sorted(root.glob('*.json')), *sorted(root.glob('*/*.json'))):
        if is_hidden(path, root):
            continue
        try:
            content = json.loads(read_text(path))
        except json.JSONDecodeError as error:
            raise UserError(f'{path} is not valid JSON: {error}.') from error
        if isinstance(content, dict) and all(isinstance(content.get(k), list) for k in KEYS):
            found[path] = content
    return found


def _split_of(path: Path, root: Path) -> str | None:
    """Returns the split that a file's path names, as in ``annotations/instances_val2017.json``."""
    text = relative(path, root).lower()
    for split, names in SPLITS.items():
        if any(name in text for name in names):
            return split
    return None


def _image_folder(path: Path, content: dict, root: Path, split: str | None) -> Path:
    """Returns the folder that the names of the images are relative to."""
    try:
        name = content['images'][0]['file_name']
    except (IndexError, KeyError, TypeError):
        raise UserError(f'{path} lists no images with a file_name.') from None
    names = SPLITS.get(split, ())
    parents = [path.parent, root, root / 'images']
    parents += [parent / name for parent in (root, root / 'images') for name in names]
    for parent in parents:
        if (parent / name).is_file():
            return parent
    raise UserError(
        f'{path} names the image {name}, which is in none of: '
        f'{", ".join(relative(parent, root) or str(root) for parent in parents)}.'
    )


def _part(content: dict, images: list[dict]) -> dict:
    """Returns the annotations of some of the images."""
    ids = {image['id'] for image in images}
    annotations = [item for item in content['annotations'] if item['image_id'] in ids]
    return dict(content, images=images, annotations=annotations)


def _used_classes(content: dict) -> tuple[str, ...]:
    """Returns the names of the categories that have annotations, by their ids."""
    used = {item['category_id'] for item in content['annotations']}
    names = {item['id']: str(item['name']) for item in content['categories']}
    classes = tuple(names[key] for key in sorted(names) if key in used)
    if len({*classes}) < len(classes):
        double = sorted({name for name in classes if classes.count(name) > 1})
        raise UserError(f'Two categories with objects share the name {double[0]}. Rename one.')
    return classes


def _order(categories: list[dict], classes: tuple[str, ...], used: set) -> list[dict]:
    """Returns one category for each class, in their order: mmdet numbers classes by the file's."""
    by_name = {}
    for item in sorted(categories, key=lambda item: item['id'] in used):  # one with objects wins
        by_name[str(item['name'])] = item
    ordered = [dict(by_name[name], name=name) for name in classes if name in by_name]
    return ordered + [item for item in categories if str(item['name']) not in classes]


def _complete(content: dict, classes: tuple[str, ...], folder: Path) -> dict:
    """Returns annotations with all fields that mmdet and its metric need, for the classes."""
    images = []
    for item in content['images']:
        if 'height' not in item or 'width' not in item:
            height, width = image_size(folder / item['file_name'])
            item = dict(item, height=height, width=width)
        images.append(item)
    annotations = []
    for number, item in enumerate(content['annotations'], 1):
        _, _, width, height = item['bbox']
        annotations.append(dict(dict(id=number, iscrowd=0, area=width * height), **item))
    used = {item['category_id'] for item in annotations}
    categories = _order(content['categories'], classes, used)
    return dict(content, images=images, annotations=annotations, categories=categories)


def find(root: Path) -> OwnData | None:
    """Recognises one COCO file, or one for training and one for validation.

    Raises:
        UserError: If it is not clear which file is for what, or images or fields are missing.
    """
    files = _annotation_files(root)
    if not files:
        return None
    try:
        return _describe(root, files)
    except UserError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f'The annotations in {root} have a fault, {error!r}: images need id and file_name, '
            'annotations image_id, category_id and bbox, categories id and name.'
        ) from error


def _describe(root: Path, files: dict[Path, dict]) -> OwnData:
    notes = []
    if len(files) == 1:
        ((path, content),) = files.items()
        folder = _image_folder(path, content, root, _split_of(path, root))
        splits = {
            split: Split(relative(folder, root), len(part), content=_part(content, part))
            for split, part in hold_out(content['images']).items()
        }
        train = content
        notes.append('There is one annotation file: every fifth image is held out.')
    else:
        paths = {split: [p for p in files if _split_of(p, root) == split] for split in SPLITS}
        if len(paths['val']) > 1:  # a test set beside the validation set
            paths['val'] = [p for p in paths['val'] if 'test' not in relative(p, root).lower()]
        if any(len(found) != 1 for found in paths.values()):
            raise UserError(
                'Expected one annotation file with "train" in its path and one with "val", got '
                f'{", ".join(relative(path, root) for path in files)}. Leave one of each.'
            )
        splits = {}
        for split, (path,) in paths.items():
            folder = _image_folder(path, files[path], root, split)
            number = len(files[path]['images'])
            splits[split] = Split(relative(folder, root), number, relative(path, root))
        train = files[paths['train'][0]]
    for split, part in splits.items():
        require_images(part.number, root, split)
    classes = _used_classes(train)
    require_objects(classes, root)
    unused = {str(item['name']) for item in train['categories']} - {*classes}
    if unused:
        notes.append(f'Without objects, so left out: {", ".join(sorted(unused))}.')
    objects = []
    for part in splits.values():
        given = part.content or files[root / part.annotations]
        complete = _complete(given, classes, root / part.images)
        if complete != given:
            part.content = complete
        objects += [item for item in complete['annotations'] if not item['iscrowd']]
    folder = root / splits['train'].images
    return OwnData(
        'detection',
        'COCO',
        root,
        classes,
        **splits,
        size=median_size([folder / PurePath(item['file_name']) for item in train['images']]),
        has_masks=all(item.get('segmentation') for item in objects),
        notes=notes,
    )
