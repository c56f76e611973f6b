"""Checks of data for classification with mmpretrain."""

import numpy as np
from mmengine.config import Config
from mmpretrain.registry import DATASETS

from mmwf.errors import UserError


def check_classification(cfg: Config, loader: str, max_images: int | None = None) -> str:
    """Checks the data of a loader against the model.

    Args:
        cfg: A config of mmpretrain, whose scope must be the default.
        loader: Name of the data loader, such as ``'train_dataloader'``.
        max_images: Number of images to read, evenly spaced; by default all.

    Returns:
        A report with a histogram of the labels.

    Raises:
        UserError: If the labels do not fit the head, or an image cannot be read.
    """
    dataset = DATASETS.build(cfg[loader].dataset)
    num_classes = cfg.model.head.num_classes
    counts = np.bincount(dataset.get_gt_labels())
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
