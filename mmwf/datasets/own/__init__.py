"""Recognising a folder of someone's own data: its layout, classes and splits."""

from pathlib import Path

from mmwf.errors import UserError

from . import class_folders, coco, labelme, masks, voc, yolo
from .data import OwnData, Split

__all__ = ['LAYOUTS', 'OwnData', 'Split', 'recognise']

#: Known layouts, in the order in which they are tried: functions that return the data, or None.
LAYOUTS = {
    'COCO': (coco.find, 'detection', 'a COCO .json beside its images or in annotations/'),
    'YOLO': (yolo.find, 'detection', 'images/{train,val}, labels/{train,val}, data.yaml'),
    'Pascal VOC': (voc.find, 'detection', 'JPEGImages, Annotations/*.xml, ImageSets/Main'),
    'labelme': (labelme.find, 'detection', 'a .json of labelme beside each image'),
    'label maps': (
        masks.find,
        'segmentation',
        'images/{train,val}, annotations/{train,val} with one .png per image',
    ),
    'class folders': (
        class_folders.find,
        'classification',
        '{train,val}/CLASS/*.jpg, or CLASS/*.jpg',
    ),
}


def recognise(folder: str | Path, task: str | None = None) -> OwnData:
    """Finds out what is in a folder of own data.

    Args:
        folder: The folder.
        task: ``'classification'``, ``'detection'`` or ``'segmentation'``; None takes the first
            layout that fits.

    Raises:
        UserError: If the folder does not exist, has no known layout (of this task), or has one
            with a fault, such as a class that only the validation images have.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f'Expected a folder with your data, but {folder} does not exist.')
    for find, its_task, _ in LAYOUTS.values():
        if task in (None, its_task):
            data = find(folder.absolute())
            if data is not None:
                return data
    known = '\n'.join(
        f'  {its_task}: {layout} ({text})'
        for layout, (_, its_task, text) in LAYOUTS.items()
        if task in (None, its_task)
    )
    entries = sorted(path.name + '/' * path.is_dir() for path in folder.iterdir())
    shown = ', '.join(entries[:8]) + ', ...' * (len(entries) > 8) or 'nothing'
    raise UserError(
        f'{folder} has none of the layouts that are known:\n{known}\nIt has: {shown}. Convert your '
        'data to one of them.'
    )
