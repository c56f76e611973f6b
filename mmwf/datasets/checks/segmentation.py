"""Checks of data for semantic segmentation with mmseg.

mmseg itself does not check the labels: a label that is not a class makes the loss NaN, and is
ignored by the metrics.
"""

from collections.abc import Collection
from itertools import zip_longest
from pathlib import Path

import numpy as np
from mmcv.transforms import LoadAnnotations, LoadImageFromFile
from mmengine.config import Config
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS
from PIL import Image

from mmwf.datasets.images import check_pixels
from mmwf.errors import UserError

from .coco_fields import check_inside
from .wrappers import LOADERS, unwrap

NUM_NAMES = 3  # files or classes named in a message


def _shorten(names: Collection[str]) -> str:
    """Formats the first few names; those of a set are sorted."""
    names = sorted(names) if isinstance(names, set) else names
    return ', '.join(names[:NUM_NAMES]) + (', ...' if len(names) > NUM_NAMES else '') or 'none'


def _as_list(value) -> list:
    return list(value) if isinstance(value, (list, tuple)) else [value] if value else []


def _build(dataset: dict) -> BaseSegDataset:
    """Builds a dataset without reading its list of files."""
    try:
        return DATASETS.build(dict(dataset, lazy_init=True))
    except ValueError as error:  # classes or palette
        raise UserError(f'{dataset.type}: {error}') from error


def _classes(dataset: BaseSegDataset) -> list[str]:
    return list(dataset.metainfo.get('classes') or ())


def _check_settings(cfg: Config, dataset: BaseSegDataset) -> None:
    """Checks that datasets, pipeline, heads and metrics agree on the meaning of the labels."""
    classes = _classes(dataset)
    for loader in LOADERS:
        for other in map(_build, unwrap(cfg[loader].dataset) if cfg.get(loader) else ()):
            if other.reduce_zero_label != dataset.reduce_zero_label:
                raise UserError(
                    f'reduce_zero_label is {dataset.reduce_zero_label} in one dataset and '
                    f'{other.reduce_zero_label} in that of {loader}. Expected the same in all.'
                )
            for label, names in enumerate(zip_longest(classes, _classes(other))):
                if names[0] != names[1]:
                    raise UserError(
                        f'Class {label} is {names[0]} in one dataset and {names[1]} in that of '
                        f'{loader}. Expected the same classes in the same order in all.'
                    )
    heads = _as_list(cfg.model.decode_head) + _as_list(cfg.model.get('auxiliary_head'))
    for head in heads:
        if head.get('num_classes') != len(classes):
            raise UserError(
                f'{head.type} has num_classes={head.get("num_classes")}, but the dataset has '
                f'{len(classes)} classes ({_shorten(classes)}). Set num_classes of decode_head and '
                'auxiliary_head, or metainfo.classes of the dataset.'
            )
    ignored = [(f'{head.type}.ignore_index', head.get('ignore_index', 255)) for head in heads]
    preprocessor = cfg.model.get('data_preprocessor') or cfg.get('data_preprocessor') or {}
    ignored.append(('data_preprocessor.seg_pad_val', preprocessor.get('seg_pad_val', 255)))
    for evaluator in ('val_evaluator', 'test_evaluator'):
        for metric in _as_list(cfg.get(evaluator)):
            ignored.append((f'{evaluator}.ignore_index', metric.get('ignore_index', 255)))
    for name, value in ignored:
        if value != dataset.ignore_index:
            raise UserError(
                f'{name} is {value}, but ignore_index of the dataset is {dataset.ignore_index}. '
                'Expected the same value in both.'
            )
    for loader in dataset.pipeline.transforms:
        reduces = getattr(loader, 'reduce_zero_label', None)
        if reduces is not None and reduces != dataset.reduce_zero_label:
            raise UserError(
                f'{type(loader).__name__} of the pipeline has reduce_zero_label={reduces}, but '
                f'the dataset has {dataset.reduce_zero_label}. Set it in the dataset only.'
            )


def _files(folder: str, suffix: str) -> set[str]:
    """Lists the files in a folder and below, as relative paths without the suffix."""
    paths = (str(p.relative_to(folder)) for p in Path(folder).rglob(f'*{suffix}'))
    return {path.removesuffix(suffix) for path in paths}


def _check_pairs(dataset: BaseSegDataset, loader: str, allow_outside: bool) -> None:
    """Checks that each image has an annotation and each annotation an image."""
    image_folder = dataset.data_prefix['img_path']
    label_folder = dataset.data_prefix.get('seg_map_path')
    if not label_folder:
        raise UserError('Expected data_prefix.seg_map_path, the folder of the annotations.')
    if dataset.ann_file:
        infos = dataset.load_data_list()
        if not infos:
            raise UserError(f'{dataset.ann_file} lists no images. Expected one name per line.')
        paths = {i[key] for i in infos for key in ('img_path', 'seg_map_path')}
        for path in () if allow_outside else paths:
            check_inside(f'{loader}: {dataset.ann_file}', dataset.data_root or '.', path)
        missing = {path for path in paths if not Path(path).is_file()}
        if missing:
            raise UserError(
                f'{dataset.ann_file} lists {len(missing)} files that do not exist: '
                f'{_shorten(missing)}.'
            )
        return
    images = _files(image_folder, dataset.img_suffix)
    labels = _files(label_folder, dataset.seg_map_suffix)
    if not images:
        raise UserError(
            f'There are no files *{dataset.img_suffix} in {image_folder}. Put the images there, or '
            'set img_suffix or data_prefix of the dataset.'
        )
    if images != labels:
        raise UserError(
            'Images and annotations do not pair up.\n'
            f'{image_folder}/*{dataset.img_suffix}: {len(images - labels)} of {len(images)} images '
            f'have no annotation: {_shorten(images - labels)}.\n'
            f'{label_folder}/*{dataset.seg_map_suffix}: {len(labels - images)} of {len(labels)} '
            f'annotations have no image: {_shorten(labels - images)}.'
        )


def _read_labels(dataset: BaseSegDataset, info: dict) -> np.ndarray:
    """Reads the labels of one image as the pipeline does, (height, width), and checks them."""
    path = info['seg_map_path']
    try:
        check_pixels(path)
        with Image.open(path) as file:
            mode = file.mode
        for transform in dataset.pipeline.transforms:
            if isinstance(transform, (LoadImageFromFile, LoadAnnotations)):
                info = transform(info)
    except UserError:
        raise
    except (OSError, SyntaxError, ValueError) as error:  # raised on damaged files
        raise UserError(f'Cannot read {path} with its image: {error}') from error
    if mode not in ('L', 'P', '1'):
        raise UserError(
            f'{path} has the colour mode {mode}. Expected an 8-bit grey or palette PNG, whose '
            'pixels are the labels.'
        )
    labels, shape = info['gt_seg_map'], info['img'].shape[:2]
    if labels.shape != shape:  # mmseg drops a side of one pixel
        raise UserError(
            f'{path} is {" x ".join(map(str, labels.shape))}, but its image '
            f'{info["img_path"]} is {shape[0]} x {shape[1]} (height x width).'
        )
    return labels


def label_histogram(dataset: BaseSegDataset, max_images: int | None = None) -> np.ndarray:
    """Counts the pixels of each label, after ``reduce_zero_label``.

    Args:
        dataset: The dataset.
        max_images: Number of images to read, evenly spaced; by default all.

    Returns:
        (256,), int64.

    Raises:
        UserError: If an annotation is not 8-bit or not of the size of its image.
    """
    number = min(len(dataset), max_images or len(dataset))
    counts = np.zeros(256, np.int64)
    for i in range(number):
        labels = _read_labels(dataset, dataset.get_data_info(i * len(dataset) // number))
        counts += np.bincount(labels.ravel(), minlength=256)
    return counts


def format_histogram(dataset: BaseSegDataset, counts: np.ndarray) -> str:
    """Formats the labels that occur as a table, one line per label."""
    classes = dataset.metainfo['classes']
    lines = [f'{"label":>7} {"pixels":>12} {"share":>7}  class']
    for label in np.flatnonzero(counts):
        name = '!! no class' if label >= len(classes) else classes[label]
        name = '(ignored)' if label == dataset.ignore_index else name
        share = counts[label] / counts.sum()
        lines.append(f'{label:>7} {counts[label]:>12} {share:>7.2%}  {name}')
    if dataset.reduce_zero_label:
        lines.append('(reduce_zero_label: a stored 0 is ignored, a stored k is label k - 1 here.)')
    return '\n'.join(lines)


def _check_labels(dataset: BaseSegDataset, counts: np.ndarray) -> None:
    """Checks that every label is a class or ignored, and that some pixel is of a class."""
    classes = len(dataset.metainfo['classes'])
    is_wrong = counts > 0
    is_wrong[:classes] = is_wrong[dataset.ignore_index] = False
    if is_wrong.any():
        wrong = [int(label) for label in np.flatnonzero(is_wrong)]
        hint = ''
        if wrong == [classes] and not dataset.reduce_zero_label:
            hint = (
                ' If a stored 0 is not a class and the classes start at 1, set '
                'reduce_zero_label=True in the dataset.'
            )
        raise UserError(
            f'Labels {wrong} are neither among the {classes} classes (0 to {classes - 1}) nor '
            f'ignore_index={dataset.ignore_index}.{hint} Labels of the annotations in '
            f'{dataset.data_prefix["seg_map_path"]}:\n{format_histogram(dataset, counts)}'
        )
    if not counts[:classes].any():
        raise UserError(
            f'No pixel of the annotations in {dataset.data_prefix["seg_map_path"]} is of a class:\n'
            + format_histogram(dataset, counts)
        )


def _check_binary(dataset: BaseSegDataset, counts: np.ndarray) -> None:
    """Checks that the labels of training data are more than class 0 and ignored pixels, as they
    are in binary masks stored as 0 and 255."""
    suspect = [0, dataset.ignore_index]
    if len(_classes(dataset)) == 1 or np.flatnonzero(counts).tolist() != suspect:
        return
    counts = label_histogram(dataset)  # the other classes may be in the other images
    if np.flatnonzero(counts).tolist() == suspect:
        raise UserError(
            f'The annotations in {dataset.data_prefix["seg_map_path"]} contain only class 0 and '
            f'ignore_index={dataset.ignore_index}. Store binary masks as 0 and 1, not 0 and 255, '
            'and set reduce_zero_label=False if 0 is a class:\n' + format_histogram(dataset, counts)
        )


def _check_batch(dataset: BaseSegDataset, loader: str, batch_size: int) -> None:
    """Checks that the images of the first batch have one shape; else mmseg cannot stack them."""
    inputs = [dataset[i]['inputs'] for i in range(min(batch_size, len(dataset)))]
    shapes = {f'{height} x {width}' for _, height, width in (image.shape for image in inputs)}
    if len(shapes) > 1:
        raise UserError(
            f'{loader} has batch_size={batch_size}, but its first images are {_shorten(shapes)} '
            '(height x width) after the pipeline. Set batch_size=1, or resize all to one shape.'
        )


def check_segmentation(cfg: Config, loader: str, max_images: int | None = None) -> str:
    """Checks the data of a loader against the model.

    Args:
        cfg: A config of mmseg, whose scope must be the default.
        loader: Name of the data loader, such as ``'train_dataloader'``.
        max_images: Number of images whose labels are read, evenly spaced; by default all. Settings
            and pairs of files are always all checked.

    Returns:
        A report with a histogram of the labels.

    Raises:
        UserError: If the labels do not fit the model, the settings contradict each other, images
            and annotations do not pair up, a list names files outside of the data root (accepted if
            the config has ``allow_paths_outside=True``), or a file cannot be read.
    """
    reports = []
    for dataset_cfg in unwrap(cfg[loader].dataset):
        dataset = _build(dataset_cfg)
        _check_settings(cfg, dataset)
        _check_pairs(dataset, loader, cfg.get('allow_paths_outside', False))
        dataset.full_init()
        counts = label_histogram(dataset, max_images)
        _check_labels(dataset, counts)
        if loader == 'train_dataloader':
            _check_binary(dataset, counts)
        elif (batch_size := cfg[loader].get('batch_size', 1)) > 1:
            _check_batch(dataset, loader, batch_size)
        number = min(len(dataset), max_images or len(dataset))
        absent = [c for c, n in zip(dataset.metainfo['classes'], counts, strict=False) if not n]
        reports.append(
            f'{loader}: {len(dataset)} images with annotations; labels of {number} of them:\n'
            + format_histogram(dataset, counts)
            + (f'\nClasses without a pixel: {", ".join(absent)}' if absent else '')
        )
    return '\n'.join(reports)
