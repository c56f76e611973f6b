"""Checks of data for classification with mmpretrain."""

import numpy as np
from mmengine.config import Config
from mmpretrain.registry import DATASETS

from mmwf.errors import UserError

from .coco_fields import check_inside

MARGIN = 1000  # labels beyond the classes that are still listed


def _shorten(labels: np.ndarray) -> str:
    names = sorted(set(map(str, labels.ravel()[:1000])))
    return ', '.join(names[:5]) + ', ...' * (len(names) > 5) or 'none'


def check_classification(cfg: Config, loader: str, max_images: int | None = None) -> str:
    """Checks the data of a loader against the model.

    Args:
        cfg: A config of mmpretrain, whose scope must be the default.
        loader: Name of the data loader, such as ``'train_dataloader'``.
        max_images: Number of images to read, evenly spaced; by default all.

    Returns:
        A report with a histogram of the labels.

    Raises:
        UserError: If there are no images, the labels do not fit the head, an image cannot be read,
            or a file lists images outside of the folder of the data (accepted if the config has
            ``allow_paths_outside=True``).
    """
    dataset = DATASETS.build(cfg[loader].dataset)
    num_classes = cfg.model.head.num_classes
    labels = dataset.get_gt_labels() if len(dataset) else np.empty(0)
    is_valid = labels.ndim == 1 and np.issubdtype(labels.dtype, np.integer) and labels.min() >= 0
    if not len(labels) or not is_valid:
        raise UserError(
            f'{loader} has {len(labels)} images with the labels {_shorten(labels)}. Expected at '
            'least one image, and each label to be the index of a class: 0, 1, ...'
        )
    if not cfg.get('allow_paths_outside') and dataset.ann_file:
        for i in range(len(dataset)):
            path = dataset.get_data_info(i)['img_path']
            check_inside(f'{loader}: {dataset.ann_file}', dataset.img_prefix or '.', path)
    if labels.max() >= max(num_classes, len(dataset.CLASSES or ())) + MARGIN:
        raise UserError(
            f'{loader} has the label {labels.max()}, but the head has num_classes={num_classes}.'
        )
    counts = np.bincount(labels)
    classes = dataset.CLASSES or [''] * len(counts)
    histogram = '\n'.join(
        f'{label:>7} {count:>12}  {classes[label] if label < len(classes) else "!! no class"}'
        for label, count in enumerate(counts)
    )
    histogram = f'{"label":>7} {"images":>12}  class\n{histogram}'
    if len(counts) > num_classes or dataset.CLASSES and len(classes) != num_classes:
        raise UserError(
            f'The head has num_classes={num_classes}, but the dataset has '
            f'{max(len(counts), len(classes))} classes. Set model.head.num_classes and '
            f'data_preprocessor.num_classes. Labels of {loader}:\n{histogram}'
        )
    number = min(len(dataset), max_images or len(dataset))
    for i in range(number):
        dataset.pipeline.transforms[0](dataset.get_data_info(i * len(dataset) // number))
    return f'{loader}: {len(dataset)} images, {number} of them read\n{histogram}'
