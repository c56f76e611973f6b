"""Writing a config for own data."""

import colorsys
import shlex
from collections.abc import Callable
from pathlib import Path

from mmengine.config import Config

from mmwf.config_files import PREFIX
from mmwf.datasets.own import OwnData, Split, recognise
from mmwf.datasets.own.data import relative
from mmwf.engine.config import load_config
from mmwf.errors import UserError
from mmwf.files import write_json, write_text

#: Sizes of the model: width; ``quickstart`` is small enough for two CPU cores.
WIDTHS = dict(quickstart=64, tiny=192, small=384)
QUICKSTART = dict(
    classification='quickstart/weightformer-w64d8-p4_1xb64-20e_digits-32px.py',
    detection='quickstart/vitdet-cascade-mask-rcnn_weightformer-w64d8-p4_1xb16-300i_scenes-64px.py',
    segmentation='quickstart/upernet_weightformer-w64d8-p4_1xb16-1100i_scenes-64px.py',
)
#: Side of the images of the small classifier, in pixels.
SMALL_SIDE = 64
#: Rules of thumb (not measured) for the length of a training: passes over the data, and limits of
#: the number of iterations.
PASSES = dict(classification=40, detection=36, segmentation=64)
ITERATIONS = dict(
    classification=(500, 50_000), detection=(2000, 90_000), segmentation=(2000, 80_000)
)


def _num_iterations(data: OwnData, batch_size: int, like: str) -> int:
    least, most = ITERATIONS[data.task]
    if like == 'quickstart':  # for a first try on a CPU
        least //= 5
    return min(max(round(data.train.number * PASSES[data.task] / batch_size, -2), least), most)


def _palette(number: int) -> list[list[int]]:
    """Returns a colour for each class, of evenly spaced hues."""
    colours = (
        colorsys.hsv_to_rgb(i / number, 0.9 - 0.3 * (i % 2), 0.95 - 0.25 * (i // 2 % 2))
        for i in range(number)
    )
    return [[round(255 * channel) for channel in colour] for colour in colours]


def _backbone(like: str) -> dict:
    if like == 'quickstart':
        return dict(init_cfg=None)
    checkpoint = f'checkpoints/weightformer-{like}_in1k.pth'
    return dict(arch=like, init_cfg=dict(type='Pretrained', checkpoint=checkpoint))


def _classification(data: OwnData, like: str, base: Config, annotate: Callable) -> dict:
    number = len(data.classes)
    train_pipeline, test_pipeline = base.train_pipeline, base.test_pipeline
    if like == 'quickstart':  # the digits' pipeline needs images of 32 x 32 pixels
        size = (SMALL_SIDE, SMALL_SIDE)
        load, pack = train_pipeline[0], train_pipeline[-1]
        crop = dict(type='mmwf.RandomResizedCrop', scale=SMALL_SIDE, crop_ratio_range=(0.35, 1.0))
        train_pipeline = [load, crop, dict(type='RandomFlip', prob=0.5), pack]
        test_pipeline = [load, dict(type='Resize', scale=size), pack]
    batch_size = min(64, data.train.number)
    per_epoch = data.train.number // batch_size
    epochs = max(round(_num_iterations(data, batch_size, like) / per_epoch), 1)

    def loader(name: str, split: Split, pipeline: list) -> dict:
        dataset = dict(_delete_=True, type='CustomDataset', data_root=str(data.root))
        dataset.update(data_prefix=split.images, pipeline=pipeline, classes=list(data.classes))
        if split.content is not None:
            dataset['ann_file'] = annotate(name, split)
        return dict(batch_size=batch_size, dataset=dataset)

    validation = loader('val', data.val, test_pipeline)
    decay = dict(base.param_scheduler[0], T_max=epochs, end=epochs)
    return dict(
        data_preprocessor=dict(num_classes=number),
        model=dict(
            backbone=_backbone(like), head=dict(num_classes=number, in_channels=WIDTHS[like])
        ),
        train_dataloader=loader('train', data.train, train_pipeline),
        val_dataloader=validation,
        test_dataloader=validation,
        train_cfg=dict(max_epochs=epochs),
        param_scheduler=[decay],
    )


def _detection(data: OwnData, like: str, base: Config, annotate: Callable) -> dict:
    number = len(data.classes)
    heads = base.model.roi_head.bbox_head
    if isinstance(heads, list):  # a cascade
        box_head = [dict(head, num_classes=number) for head in heads]
    else:
        box_head = dict(num_classes=number)
    model = dict(
        backbone=_backbone(like),
        neck=dict(in_channels=WIDTHS[like]),
        roi_head=dict(bbox_head=box_head, mask_head=dict(num_classes=number)),
    )
    if not data.has_masks:
        model['roi_head'].update(mask_head=None, mask_roi_extractor=None)

    def loader(name: str, split: Split) -> dict:
        dataset = dict(
            data_root=str(data.root),
            metainfo=dict(classes=list(data.classes)),
            ann_file=split.annotations if split.content is None else annotate(name, split),
            data_prefix=dict(img=split.images),
        )
        if not data.has_masks:
            dataset['pipeline'] = [
                dict(step, with_mask=False) if step['type'] == 'LoadAnnotations' else step
                for step in base[f'{name}_dataloader'].dataset.pipeline
            ]
        return dict(dataset=dataset)

    validation = loader('val', data.val)
    evaluator = dict(ann_file=str(data.root / validation['dataset']['ann_file']))
    if not data.has_masks:
        evaluator['metric'] = ['bbox']
    iterations = _num_iterations(data, base.train_dataloader.batch_size, like)
    first, second = base.param_scheduler
    if like == 'quickstart':
        schedule = [dict(first, T_max=iterations, end=iterations), second]
    else:
        milestones = [round(iterations * share) for share in (0.889, 0.963)]
        schedule = [first, dict(second, milestones=milestones)]
    return dict(
        model=model,
        train_dataloader=loader('train', data.train),
        val_dataloader=validation,
        test_dataloader=validation,
        val_evaluator=evaluator,
        test_evaluator=evaluator,
        param_scheduler=schedule,
        **_length(iterations),
    )


def _segmentation(data: OwnData, like: str, base: Config, annotate: Callable) -> dict:
    number, width = len(data.classes), WIDTHS[like]
    decode_head = dict(num_classes=number)
    if like != 'quickstart':
        decode_head.update(channels=width)
    image_suffix, map_suffix = data.suffixes

    def loader(split: Split) -> dict:
        return dict(
            dataset=dict(
                data_root=str(data.root),
                metainfo=dict(classes=list(data.classes), palette=_palette(number)),
                data_prefix=dict(img_path=split.images, seg_map_path=split.annotations),
                img_suffix=image_suffix,
                seg_map_suffix=map_suffix,
                reduce_zero_label=data.zero_is_ignored,
            )
        )

    validation = loader(data.val)
    iterations = _num_iterations(data, base.train_dataloader.batch_size, like)
    first, second = base.param_scheduler
    return dict(
        model=dict(
            backbone=_backbone(like),
            neck=dict(embed_dim=width),
            decode_head=dict(decode_head, in_channels=[width] * 4),
            auxiliary_head=dict(in_channels=width, num_classes=number),
        ),
        train_dataloader=loader(data.train),
        val_dataloader=validation,
        test_dataloader=validation,
        param_scheduler=[first, dict(second, end=iterations)],
        **_length(iterations),
    )


def _length(iterations: int) -> dict:
    interval = max(iterations // 10, 1)
    return dict(
        train_cfg=dict(max_iters=iterations, val_interval=interval),
        default_hooks=dict(checkpoint=dict(interval=interval)),
    )


CONFIGS = dict(classification=_classification, detection=_detection, segmentation=_segmentation)


def write_own_config(
    folder: str | Path, out: str | Path, task: str | None = None, like: str = 'tiny'
) -> OwnData:
    """Writes a config that trains on own data: a shipped config as base, and what differs.

    Layouts other than COCO and label maps, and COCO files that lack fields, get annotation files
    beside the config.

    Args:
        folder: The data, in a layout of :data:`mmwf.datasets.own.LAYOUTS`.
        out: The config file to write.
        task: As in :func:`mmwf.datasets.own.recognise`.
        like: Size of the model: ``'tiny'``, ``'small'``, or ``'quickstart'`` for CPUs.

    Returns:
        What was found in the folder.

    Raises:
        UserError: If the data are not recognised, or ``out`` is no Python file, or it or a file of
            annotations beside it exists.
    """
    out = Path(out)
    if out.suffix != '.py':
        raise UserError(f'Expected a name like my_config.py for the config, got {out}.')
    if out.exists():
        raise UserError(f'{out} exists. Choose another --out, or remove it.')
    data = recognise(folder, task)
    files = {}
    for name, split in dict(train=data.train, val=data.val).items():
        suffix = 'json' if isinstance(split.content, dict) else 'txt'
        files[name] = out.with_name(f'{out.stem}_{name}.{suffix}').absolute()
        if split.content is not None and files[name].exists():
            raise UserError(f'{files[name]} exists. Choose another --out, or remove it.')
    base = f'{PREFIX}{data.task}/example_own-dataset.py'
    if like == 'quickstart':
        base = PREFIX + QUICKSTART[data.task]

    def annotate(name: str, split: Split) -> str:
        """Writes annotations beside the config and returns their path."""
        if isinstance(split.content, dict):
            write_json(files[name], split.content)
        else:
            write_text(files[name], '\n'.join(split.content) + '\n')
        return str(files[name])

    changes = CONFIGS[data.task](data, like, load_config(base), annotate)
    changes['data_help'] = f'mmwf init found the data in {data.root}.'
    if like != 'quickstart':
        file = changes['model']['backbone']['init_cfg']['checkpoint']
        hub = f'hf://RuizeHe/weightformer-{like[0]}'
        changes['weights_help'] = f'Get them with: mmwf official-to-mmwf {hub} {file}\n'
    title = f'{data.task.capitalize()} of {len(data.classes)} classes: {data.train.number} images'
    command = f'mmwf train {shlex.quote(relative(out, Path.cwd()))}'
    write_text(
        out,
        f'"""{title} ({data.layout}); written by mmwf init.\n\n    {command}\n"""\n\n'
        f'_base_ = {base!r}\n\n{Config(changes).pretty_text}',
    )
    return data
