"""The datasets at their default places."""

from collections.abc import Iterator
from pathlib import Path

from mmwf.datasets.checks import check_datasets
from mmwf.engine.config import load_config
from mmwf.errors import UserError
from mmwf.libraries import quiet_imports

from .findings import Finding

#: The folders, and configs that expect their data there.
FOLDERS = {
    'data/imagenet': 'configs/classification/weightformer-tiny-p16_8xb256_in1k.py',
    'data/coco': (
        'configs/detection/'
        'vitdet-cascade-mask-rcnn_weightformer-tiny-p16_16xb4-amp-lsj-100e_coco.py'
    ),
    'data/ade': 'configs/segmentation/upernet_weightformer-tiny-p16_8xb2-160k_ade20k-512x512.py',
}
LOADERS = ('train_dataloader', 'val_dataloader')
MAX_IMAGES = 20


def check_data_folder(folder: str) -> Finding:
    """Checks the data of a folder as training does.

    Args:
        folder: A key of ``FOLDERS``, relative to the current folder.
    """
    path = Path(folder)
    if path.is_symlink() and not path.exists():
        detail = f'a link to {path.readlink()}, which does not exist'
        return Finding('broken', folder, detail, f'ln -sfn /path/to/the/data {folder}')
    cfg = load_config(FOLDERS[folder])
    if not path.exists():
        return Finding('note', folder, 'not there; only training on these data needs it')
    try:
        with quiet_imports():
            reports = check_datasets(cfg, LOADERS, MAX_IMAGES)
    except UserError as error:
        first, *rest = str(error).splitlines()
        fix = ' '.join(rest) or f'mmwf check-dataset {FOLDERS[folder]} says more'
        return Finding('broken', folder, first, fix)
    return Finding('ok', folder, ' '.join(report.splitlines()[0] for report in reports))


def check_data() -> Iterator[Finding]:
    """Checks the data that are at their default places."""
    yield from map(check_data_folder, FOLDERS)
