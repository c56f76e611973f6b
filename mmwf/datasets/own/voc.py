"""Pascal VOC: one XML file of boxes for each image."""

from collections.abc import Collection
from pathlib import Path
from xml.etree import ElementTree

from mmwf.errors import UserError

from .data import (
    OwnData,
    Split,
    clip_box,
    coco_content,
    hold_out,
    image_size,
    list_images,
    median_size,
    read_text,
    require_images,
    require_objects,
)


def _read(path: Path, size: tuple[int, int]) -> list[tuple[str, dict]]:
    """Returns class and box of the objects of an image; difficult ones are crowds (ignored)."""
    text = read_text(path)
    if '<!ENTITY' in text:
        raise UserError(f'{path} defines XML entities, which annotations do not need.')
    try:
        objects = []
        for item in ElementTree.fromstring(text).iter('object'):
            x1, y1, x2, y2 = (
                float(item.find('bndbox').findtext(key)) for key in ('xmin', 'ymin', 'xmax', 'ymax')
            )
            # The first pixel of VOC has number 1, and xmax is the last pixel of the object.
            box = clip_box(x1 - 1, y1 - 1, x2, y2, size)
            crowd = int(item.findtext('difficult', '0').strip() == '1')
            objects.append((item.findtext('name').strip(), dict(bbox=box, iscrowd=crowd)))
    except (ElementTree.ParseError, AttributeError, TypeError, ValueError) as error:
        raise UserError(
            f'Cannot read {path}: expected objects with name and bndbox (xmin, ymin, xmax, ymax): '
            f'{error}.'
        ) from error
    return objects


def _lists(root: Path, names: Collection[str]) -> tuple[dict[str, list[str]], bool]:
    """Returns the names of each split's images, and whether they were held out by us."""
    folder = root / 'ImageSets' / 'Main'
    paths = dict(train=folder / 'train.txt', val=folder / 'val.txt')
    if not all(path.is_file() for path in paths.values()):
        return hold_out(list(names)), True
    lists = {}
    for split, path in paths.items():
        lines = [line.strip() for line in read_text(path).splitlines() if line.strip()]
        # A name may have spaces; or 1, 0 or -1 follows it.
        lists[split] = [line if line in names else line.split()[0] for line in lines]
        missing = [name for name in lists[split] if name not in names]
        if missing:
            raise UserError(f'{path} names {missing[0]}, which has no annotated image.')
    return lists, False


def find(root: Path) -> OwnData | None:
    """Recognises ``JPEGImages`` and ``Annotations``, with or without ``ImageSets/Main``.

    Raises:
        UserError: If a list names images that do not exist, or a file cannot be read.
    """
    images, annotations = root / 'JPEGImages', root / 'Annotations'
    if not (images.is_dir() and annotations.is_dir()):
        return None
    paths = {
        path.stem: path
        for path in list_images(images)
        if (annotations / f'{path.stem}.xml').is_file()
    }
    lists, held_out = _lists(root, paths)
    found = {}
    for split, names in lists.items():
        require_images(len(names), root, split)
        for name in names:
            size = image_size(paths[name])
            found[name] = size, _read(annotations / f'{name}.xml', size)
    classes = sorted({label for name in lists['train'] for label, _ in found[name][1]})
    require_objects(classes, root)
    splits = {}
    for split, names in lists.items():
        entries = []
        for name in names:
            size, objects = found[name]
            unknown = [label for label, _ in objects if label not in classes]
            if unknown:
                raise UserError(f'{name}: no training image has an object of {unknown[0]!r}.')
            objects = [dict(item, category_id=classes.index(label)) for label, item in objects]
            entries.append((paths[name].relative_to(images).as_posix(), size, objects))
        content = coco_content(classes, entries)
        splits[split] = Split('JPEGImages', len(names), content=content)
    notes = ['There are no ImageSets/Main/{train,val}.txt: every fifth image is held out.']
    return OwnData(
        'detection',
        'Pascal VOC',
        root,
        tuple(classes),
        **splits,
        size=median_size([paths[name] for name in lists['train']]),
        notes=notes if held_out else [],
    )
