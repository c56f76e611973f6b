"""Checks of datasets in COCO's format, in which mmdet accepts most errors silently."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import mmengine
from mmengine.config import Config

from mmwf.errors import UserError
from mmwf.libraries import import_task_library
from mmwf.processes import local_rank

from .coco_fields import check_entries, check_inside, check_sizes
from .coco_panoptic import check_maps, count_things, flatten_segments
from .wrappers import unwrap

#: Pixels by which a box may extend beyond its image, since annotators round.
TOLERANCE = 1.0
#: The fields that mmdet needs in each entry.
FIELDS = {
    'images': {'id', 'file_name', 'height', 'width'},
    'categories': {'id', 'name'},
    'annotations': {'id', 'image_id', 'category_id', 'bbox', 'area'},
}


def check_coco(cfg: Config, loaders: tuple[str, ...]) -> None:
    """Checks annotations, images and class counts of mmdet's CocoDatasets, also inside wrappers.

    Only the first process on each machine does so. For COCO 2017 it takes some seconds, mostly for
    reading the file.

    Args:
        cfg: The config. Nothing is checked unless its default scope is mmdet. The boxes are not
            checked if it has ``allow_boxes_outside = True``, and the paths of images not if it has
            ``allow_paths_outside = True``.
        loaders: Names of the data loaders.

    Raises:
        UserError: If the annotations are not in COCO's format; if they do not fit the classes of
            the dataset, the model, or the images and panoptic maps on disk; if an image is too
            large or outside of the folder of the data; if no image is left to train on; or if a
            box extends beyond its image.
    """
    if cfg.get('default_scope') != 'mmdet' or local_rank() != 0:
        return
    import_task_library(cfg)
    for loader in loaders:
        root = cfg[loader].dataset if cfg.get(loader) else {}
        for dataset, default_classes in _coco_datasets(root):
            content, panoptic = _read(loader, dataset), _is_panoptic(dataset)
            if panoptic:
                content = flatten_segments(loader, _ann_file(dataset), content)
            _check_fields(loader, dataset, content)
            check_sizes(_where(loader, dataset), content)
            if not cfg.get('allow_paths_outside'):
                _check_paths(loader, dataset, content)
            classes = _classes(dataset, default_classes)
            _check_categories(loader, dataset, content, classes)
            num_things = len(classes)
            if panoptic:
                num_things = count_things(loader, _ann_file(dataset), content, classes)
            _check_model(loader, cfg.model, classes, num_things)
            _check_images(loader, dataset, content)
            if panoptic:
                check_maps(loader, dataset, _ann_file(dataset), content)
            _check_evaluator(loader, dataset, cfg.get(loader.replace('dataloader', 'evaluator')))
            _check_references(loader, dataset, content)
            _check_filter(loader, dataset, content, classes[:num_things])
            if not cfg.get('allow_boxes_outside'):
                _check_boxes(loader, dataset, content)


def _coco_datasets(dataset: dict) -> Iterator[tuple[dict, list[str]]]:
    """Yields the configs of CocoDatasets, each with the default class names of its type."""
    from mmdet.datasets import CocoDataset, LVISV05Dataset
    from mmdet.registry import DATASETS

    for child in unwrap(dataset):
        if not child.get('ann_file'):
            continue
        kind = child['type']
        kind = DATASETS.get(kind) if isinstance(kind, str) else kind
        # LVIS is a subclass with another format.
        if issubclass(kind or object, CocoDataset) and not issubclass(kind, LVISV05Dataset):
            yield child, list(kind.METAINFO.get('classes') or ())


def _is_panoptic(dataset: dict) -> bool:
    from mmdet.datasets import CocoPanopticDataset
    from mmdet.registry import DATASETS

    kind = dataset['type']
    kind = DATASETS.get(kind) if isinstance(kind, str) else kind
    return issubclass(kind, CocoPanopticDataset)


def _ann_file(dataset: dict) -> Path:
    return Path(dataset.get('data_root') or '') / dataset['ann_file']


def _where(loader: str, dataset: dict) -> str:
    return f'{loader}: {_ann_file(dataset)}'


def _read(loader: str, dataset: dict) -> dict:
    path = _ann_file(dataset)
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f'{loader}: cannot read {path} as JSON: {error}') from error
    expected = {'images', 'categories'}
    if not dataset.get('test_mode'):
        expected.add('annotations')
    if not isinstance(content, dict) or not expected <= set(content):
        got = sorted(content) if isinstance(content, dict) else f'a {type(content).__name__}'
        raise UserError(
            f"{loader}: {path} is not in COCO's format: expected a JSON object with "
            f'{sorted(expected)}, got {got}.'
        )
    return content


def _check_fields(loader: str, dataset: dict, content: dict) -> None:
    with_mask = any(transform.get('with_mask') for transform in dataset.get('pipeline') or ())
    with_mask = with_mask and not _is_panoptic(dataset)  # whose masks are in the maps
    for kind, fields in FIELDS.items():
        if kind == 'annotations':
            fields = fields | {'segmentation'} if with_mask else fields
            fields = fields | {'iscrowd'} if dataset.get('test_mode') else fields  # for the metric
        check_entries(loader, _ann_file(dataset), kind, content.get(kind, []), fields)


def _classes(dataset: dict, default: list[str]) -> list[str]:
    classes = (dataset.get('metainfo') or {}).get('classes', default)
    return mmengine.list_from_file(classes) if isinstance(classes, str) else list(classes)


def _check_categories(loader: str, dataset: dict, content: dict, classes: list[str]) -> None:
    names = [category['name'] for category in content['categories']]
    if [name for name in names if name in classes] == classes:
        return
    missing = [name for name in classes if name not in names]
    if missing:
        problem = f'classes without a category: {_shorten(missing)}'
    else:  # mmdet numbers the classes in the order of the file but names them in that of metainfo
        problem = 'the classes are not in the order of the categories'
    raise UserError(
        f'{loader}: {problem}.\nExpected classes: {_shorten(classes)}; got categories: '
        f'{_shorten(names)} in {_ann_file(dataset)}.\nSet {loader}.dataset.metainfo.classes to the '
        'names of the classes to train on, in the order of the file.'
    )


def _shorten(names: list[str]) -> str:
    return f'{len(names)} ({", ".join(names[:10])}{", ..." if len(names) > 10 else ""})'


def _class_counts(model, path: str = 'model') -> Iterator[tuple[str, int]]:
    """Yields each number of classes of the heads, with its key in the config."""
    items = enumerate(model) if isinstance(model, (list, tuple)) else model.items()
    for key, value in items:
        full_key = f'{path}.{key}'
        is_count = key == 'num_classes' and ('bbox_head' in path or 'mask_head' in path)
        if is_count or key in ('num_things_classes', 'num_stuff_classes'):
            yield full_key, value
        elif isinstance(value, (dict, list, tuple)):
            yield from _class_counts(value, full_key)


def _check_model(loader: str, model: dict, classes: list[str], num_things: int) -> None:
    for key, count in _class_counts(model):
        name = key.rpartition('.')[2]
        of_stuff = name == 'num_stuff_classes'
        names = classes[num_things:] if of_stuff else classes[:num_things]
        if count != len(names):
            raise UserError(
                f'{key} is {count}, but {loader} has {_shorten(names)} '
                f'{"stuff " if of_stuff else ""}classes. Set the {name} of all heads to the number '
                'of classes.'
            )


def _check_evaluator(loader: str, dataset: dict, evaluator: dict | list | None) -> None:
    expected = dict(ann_file=_ann_file(dataset))
    if _is_panoptic(dataset):
        root = Path(dataset.get('data_root') or '')
        expected['seg_prefix'] = root / dataset['data_prefix']['seg']
    for metric in evaluator if isinstance(evaluator, (list, tuple)) else [evaluator or {}]:
        if _is_panoptic(dataset) and metric.get('type') == 'CocoMetric':
            continue  # reads the instances of the same images
        for key, path in expected.items():
            got = metric.get(key)
            if got and Path(got).absolute() != path.absolute():
                name = loader.replace('dataloader', 'evaluator')
                raise UserError(f'{name}.{key} is {got}, but {loader} reads {path}.')


def _image_folder(dataset: dict) -> Path:
    prefix = (dataset.get('data_prefix') or {}).get('img', '')
    return Path(dataset.get('data_root') or '') / prefix


def _check_paths(loader: str, dataset: dict, content: dict) -> None:
    """Checks that the images are below the data root or, without one, in the folder of images."""
    folder = _image_folder(dataset)
    for image in content['images']:
        path = folder / image['file_name']
        check_inside(_where(loader, dataset), dataset.get('data_root') or folder, path)


def _check_images(loader: str, dataset: dict, content: dict) -> None:
    folder = _image_folder(dataset)
    listings: dict[Path, set[str]] = {}  # far faster than one look-up per file
    missing = []
    for image in content['images']:
        path = folder / image['file_name']
        if path.parent not in listings:
            is_folder = path.parent.is_dir()
            listings[path.parent] = (
                {entry.name for entry in os.scandir(path.parent)} if is_folder else set()
            )
        if path.name not in listings[path.parent]:
            missing.append(path)
    if missing:
        raise UserError(
            f'{loader}: {len(missing)} of the {len(content["images"])} images in '
            f'{_ann_file(dataset)} do not exist, such as {missing[0]}. Put them there, or set '
            f'{loader}.dataset.data_prefix.img to their folder.'
        )


def _check_filter(loader: str, dataset: dict, content: dict, classes: list[str]) -> None:
    """Checks that mmdet's ``filter_cfg`` leaves at least one image."""
    images = content['images']
    rules = {} if dataset.get('test_mode') else dataset.get('filter_cfg') or {}
    large = [i for i in images if min(i['width'], i['height']) >= rules.get('min_size', 0)]
    kept = large
    if rules.get('filter_empty_gt'):
        known = {c['id'] for c in content['categories'] if c['name'] in classes}
        not_empty = {a['image_id'] for a in content['annotations'] if a['category_id'] in known}
        kept = [image for image in large if image['id'] in not_empty]
    if not kept:
        raise UserError(
            f'{loader}: no image of {_ann_file(dataset)} is left to use. Of {len(images)} images, '
            f'{len(images) - len(large)} are smaller than filter_cfg.min_size and '
            f'{len(large) - len(kept)} contain none of the classes {_shorten(classes)}. Check the '
            f'annotations, or {loader}.dataset.filter_cfg.'
        )


def _check_references(loader: str, dataset: dict, content: dict) -> None:
    """Checks that each annotation has an image and a category. mmdet drops the others silently."""
    for kind, key in (('images', 'image_id'), ('categories', 'category_id')):
        known = {entry['id'] for entry in content[kind]}
        for annotation in content.get('annotations', ()):
            if annotation[key] not in known:
                raise UserError(
                    f'{loader}: annotation {annotation["id"]} of {_ann_file(dataset)} has the '
                    f'{key} {annotation[key]}, which is not among the {kind} of the file.'
                )


def _is_inside(box: list, image: dict) -> bool:
    x, y, width, height = box
    return (
        min(x, y) >= -TOLERANCE
        and min(width, height) >= 0
        and x + width <= image['width'] + TOLERANCE
        and y + height <= image['height'] + TOLERANCE
    )


def _check_boxes(loader: str, dataset: dict, content: dict) -> None:
    path = _ann_file(dataset)
    images = {image['id']: image for image in content['images']}
    outside = [
        annotation
        for annotation in content.get('annotations', ())
        if not _is_inside(annotation['bbox'], images[annotation['image_id']])
    ]
    if outside:
        image = images[outside[0]['image_id']]
        raise UserError(
            f'{loader}: {len(outside)} of {len(content["annotations"])} boxes in {path} are not '
            f'inside their image. Annotation {outside[0]["id"]} has the box {outside[0]["bbox"]}, '
            f'and {image["file_name"]} is {image["width"]} x {image["height"]} pixels.\n'
            'Expected [x, y, width, height] in pixels, with x and y of the top left corner. If '
            'boxes may extend beyond their image, set allow_boxes_outside=True.'
        )
