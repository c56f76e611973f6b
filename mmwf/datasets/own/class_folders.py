"""Images in one folder for each class."""

from pathlib import Path

from mmwf.errors import UserError

from .data import (
    OwnData,
    Split,
    hold_out,
    list_images,
    median_size,
    relative,
    require_images,
    split_folder,
)


def _class_folders(parent: Path) -> dict[str, list[Path]]:
    """Returns the images of each class; empty if the sub-folders are no classes."""
    folders = [p for p in sorted(parent.iterdir()) if p.is_dir() and not p.name.startswith('.')]
    return {path.name: list_images(path) for path in folders}


def find(root: Path) -> OwnData | None:
    """Recognises ``{train,val}/CLASS/*.jpg``, or ``CLASS/*.jpg`` without a split.

    Raises:
        UserError: If a class has no images, or the classes of the splits differ.
    """
    folders = {split: split_folder(root, split) for split in ('train', 'val')}
    if folders['train'] and not folders['val']:
        folders = dict(train=folders['train'], val=None)
    train = _class_folders(folders['train'] or root)
    if not any(train.values()):
        return None
    empty = [name for name, images in train.items() if not images]
    if empty:
        raise UserError(f'No images in the class folders {", ".join(empty)} of {root}.')
    if len(train) < 2:
        raise UserError(f'Expected at least two class folders in {root}, got {", ".join(train)}.')
    notes, sizes = [], median_size(next(iter(train.values())))
    if folders['val']:
        val = _class_folders(folders['val'])
        if list(val) != list(train):
            differing = ', '.join(sorted({*train} ^ {*val}))
            raise UserError(
                f'{folders["train"]} and {folders["val"]} have different class folders; only one '
                f'has: {differing}.'
            )
        parts = {name: dict(train=train[name], val=val[name]) for name in train}
    else:
        folders = dict.fromkeys(folders, folders['train'] or root)
        parts = {name: hold_out(images) for name, images in train.items()}
        notes.append('There are no validation images: every fifth image is held out.')
    for name, part in parts.items():
        require_images(len(part['train']), folders['train'] / name, 'train')
    splits = {}
    for split, folder in folders.items():  # lists: mmpretrain would take .cache/1.jpg, not 1.webp
        lines = [
            f'{relative(path, folder)} {label}'
            for label, part in enumerate(parts.values())
            for path in part[split]
        ]
        require_images(len(lines), folder, split)
        splits[split] = Split(relative(folder, root), len(lines), content=lines)
    return OwnData(
        'classification', 'class folders', root, tuple(train), **splits, size=sizes, notes=notes
    )
