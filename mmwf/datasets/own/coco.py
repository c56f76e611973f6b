"""Annotations in COCO's format, written by COCO itself, Roboflow, CVAT, Label Studio and others."""

import json
from pathlib import Path, PurePath

from mmwf.errors import UserError

from .data import (
    SPLITS,
    OwnData,
    Split,
    hold_out,
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
    names = {item['id']: item['name'] for item in content['categories']}
    return tuple(str(names[key]) for key in sorted(names) if key in used)


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
    except (KeyError, TypeError) as error:
        raise UserError(
            f'The annotations in {root} lack the field {error}: images need id and file_name, '
            'annotations image_id and category_id, categories id and name.'
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
    objects = [item for item in train['annotations'] if not item.get('iscrowd')]
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
