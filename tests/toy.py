"""Shipped configs at toy size with toy data, for tests on a CPU."""

import json
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.runner import EpochBasedTrainLoop
from toy_heads import shrink_heads

from mmwf.engine import CheckpointMatchHook

WIDTH = 16  # of backbone, pyramid and heads
IMAGE_SIZE = 64
CLASSES = ('yellow', 'cyan')
SEGMENTATION_CLASSES = (*CLASSES, 'magenta')  # the last one does not occur


def write_coco(root: Path, num_images: int = 4, classes: tuple[str, str] = CLASSES) -> Path:
    """Writes images of different shapes with one or two coloured squares, in COCO's layout.

    Args:
        root: Output folder for ``{train,val}/*.png`` and
            ``annotations/instances_{train,val}.json``.
        num_images: Number of images in each split.
        classes: Names of the two colours.

    Returns:
        ``root``.
    """
    rng = np.random.default_rng(0)
    for split in ('train', 'val'):
        (root / split).mkdir(parents=True, exist_ok=True)
        images, annotations = [], []
        for i in range(num_images):
            height, width = 40 + 8 * i, 64 - 4 * i
            image = rng.integers(0, 60, (height, width, 3), dtype=np.uint8)
            for category in {1, 1 + i % 2}:
                x, y = (int(v) for v in rng.integers(2, (width - 24, height - 24)))
                corners = [x, y, x + 20, y, x + 20, y + 20, x, y + 20]
                color = (40, 250, 250) if category == 1 else (250, 250, 40)  # BGR
                cv2.rectangle(image, (x, y), (x + 20, y + 20), color, -1)
                annotations.append(
                    dict(
                        id=len(annotations) + 1,
                        image_id=i + 1,
                        category_id=category,
                        bbox=[x, y, 20, 20],
                        area=400,
                        segmentation=[corners],
                        iscrowd=0,
                    )
                )
            cv2.imwrite(str(root / split / f'{i}.png'), image)
            images.append(dict(id=i + 1, file_name=f'{i}.png', height=height, width=width))
        content = dict(
            images=images,
            annotations=annotations,
            categories=[dict(id=i + 1, name=name) for i, name in enumerate(classes)],
        )
        (root / 'annotations').mkdir(exist_ok=True)
        (root / 'annotations' / f'instances_{split}.json').write_text(json.dumps(content))
    return root


def shrink_detection(cfg: Config, data_root: Path) -> Config:
    """Shrinks a config of ``configs/detection`` and applies it to the data of :func:`write_coco`.

    For panoptic segmentation, the data are those of ``toy_heads.write_panoptic``.

    Widths, image sizes and the numbers of boxes and iterations become small, and the backbone is
    not pretrained. Types, losses, thresholds and the rest of the recipe do not change.

    Args:
        cfg: The config, changed in place.
        data_root: Folder of the data.

    Returns:
        ``cfg``.
    """
    model = cfg.model
    model.data_preprocessor.pad_size_divisor = IMAGE_SIZE
    model.backbone.init_cfg = None
    if model.backbone.type == 'mmwf.WeightFormer':
        model.backbone.arch = dict(embed_dims=WIDTH, depth=3, mlp_ratio=2)
    else:
        model.backbone.arch.update(
            embed_dims=WIDTH,
            num_layers=3,
            num_heads=2,
            feedforward_channels=2 * WIDTH,
            global_attn_indexes=[2],
        )
        model.backbone.window_size = 2
    model.neck.update(in_channels=WIDTH, out_channels=WIDTH)
    shrink_heads(model, WIDTH, len(CLASSES))

    panoptic = cfg.test_dataloader.dataset.type == 'CocoPanopticDataset'
    kind = 'panoptic' if panoptic else 'instances'
    for split in ('train', 'val', 'test'):
        loader = cfg[f'{split}_dataloader']
        loader.update(batch_size=2, num_workers=0, persistent_workers=False, pin_memory=False)
        folder = 'train' if split == 'train' else 'val'
        loader.dataset.update(
            data_root=str(data_root),
            ann_file=f'annotations/{kind}_{folder}.json',
            data_prefix=dict(img=folder),
            metainfo=dict(classes=CLASSES),
        )
        if panoptic:
            loader.dataset.data_prefix.seg = f'annotations/panoptic_{folder}'
            loader.dataset.metainfo.update(thing_classes=CLASSES[:1], stuff_classes=CLASSES[1:])
        _shrink_sizes(loader.dataset.pipeline)
    _shrink_sizes(cfg.get('tta_pipeline'))
    cfg.val_evaluator.ann_file = str(data_root / f'annotations/{kind}_val.json')
    if panoptic:
        cfg.val_evaluator.seg_prefix = str(data_root / 'annotations/panoptic_val')
    cfg.test_evaluator = cfg.val_evaluator
    cfg.train_cfg.update(max_iters=2, val_interval=2)
    cfg.default_hooks.checkpoint.interval = 2
    cfg.default_hooks.logger.interval = 1
    return cfg


def write_ade20k(root: Path, num_images: int = 4, first_label: int = 1) -> Path:
    """Writes images of different shapes with two coloured squares, in ADE20K's layout.

    Args:
        root: Output folder for ``{images,annotations}/{training,validation}/*``.
        num_images: Number of images in each split.
        first_label: Label of yellow pixels; that of cyan pixels is the next, the background is 0.

    Returns:
        ``root``.
    """
    rng = np.random.default_rng(0)
    for split in ('training', 'validation'):
        folders = [root / kind / split for kind in ('images', 'annotations')]
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        for i in range(num_images):
            height, width = 40 + 8 * i, 70 - 4 * i
            image = rng.integers(0, 60, (height, width, 3), dtype=np.uint8)
            labels = np.zeros((height, width), np.uint8)
            for label, color in enumerate(((40, 250, 250), (250, 250, 40)), first_label):  # BGR
                x, y = (int(v) for v in rng.integers(2, (width - 20, height - 20)))
                image[y : y + 16, x : x + 16], labels[y : y + 16, x : x + 16] = color, label
            cv2.imwrite(str(folders[0] / f'{i}.jpg'), image)
            cv2.imwrite(str(folders[1] / f'{i}.png'), labels)
    return root


def shrink_segmentation(cfg: Config, data_root: Path) -> Config:
    """Shrinks a config of ``configs/segmentation`` and applies it to :func:`write_ade20k`'s data.

    The backbone is not pretrained.

    Args:
        cfg: The config, changed in place.
        data_root: Folder of the data.

    Returns:
        ``cfg``.
    """
    size, model = (IMAGE_SIZE, IMAGE_SIZE), cfg.model
    model.backbone.init_cfg = None
    model.data_preprocessor.size = size
    if 'size' in model.data_preprocessor.test_cfg:
        model.data_preprocessor.test_cfg.size = size
        model.test_cfg.update(crop_size=size, stride=(43, 43))
    if model.backbone.type == 'mmwf.WeightFormer':
        model.backbone.arch = dict(embed_dims=WIDTH, depth=4, mlp_ratio=2)
    else:
        arch = dict(embed_dims=WIDTH, num_layers=4, num_heads=2, feedforward_channels=2 * WIDTH)
        model.backbone.update(arch=arch, img_size=IMAGE_SIZE)
    model.backbone.out_indices = (0, 1, 2, 3)[-len(model.backbone.out_indices) :]
    if 'neck' in model:
        model.neck.embed_dim = WIDTH
    _shrink_decode_head(model.decode_head)
    if 'auxiliary_head' in model:
        _shrink_decode_head(model.auxiliary_head)

    for split in ('train', 'val', 'test'):
        loader = cfg[f'{split}_dataloader']
        loader.update(num_workers=0, persistent_workers=False, pin_memory=False)
        loader.dataset.update(
            type='BaseSegDataset',
            data_root=str(data_root),
            metainfo=dict(classes=SEGMENTATION_CLASSES),
            reduce_zero_label=True,
        )
        _shrink_sizes(loader.dataset.pipeline, 512)
    cfg.train_dataloader.batch_size = 2
    _shrink_sizes(cfg.tta_pipeline, 512)
    cfg.train_cfg.update(max_iters=2, val_interval=2)
    cfg.default_hooks.checkpoint.interval = 2
    cfg.default_hooks.logger.interval = 1
    return cfg


def _shrink_decode_head(head) -> None:
    """Shrinks a head of mmseg."""
    num_classes = len(SEGMENTATION_CLASSES)
    is_pyramid = isinstance(head.in_channels, list)
    head.update(in_channels=[WIDTH] * 4 if is_pyramid else WIDTH, num_classes=num_classes)
    if head.type != 'Mask2FormerHead':
        head.channels = WIDTH
        return
    decoders = head.pixel_decoder.encoder, head.transformer_decoder
    head.update(feat_channels=WIDTH, out_channels=WIDTH, num_queries=5)
    head.loss_cls.class_weight = [1.0] * num_classes + [0.1]
    head.train_cfg.num_points = 64
    head.pixel_decoder.norm_cfg.num_groups = 2
    for part in (head, head.pixel_decoder):
        part.positional_encoding.num_feats = WIDTH // 2
    for decoder in decoders:
        decoder.num_layers = 2
        decoder.layer_cfg.ffn_cfg.update(embed_dims=WIDTH, feedforward_channels=WIDTH)
        for name in {'self_attn_cfg', 'cross_attn_cfg'} & set(decoder.layer_cfg):
            decoder.layer_cfg[name].update(embed_dims=WIDTH, num_heads=2)


def _shrink_sizes(value, full_size: int = 1024) -> None:
    """Scales the sizes in a pipeline from ``full_size`` to ``IMAGE_SIZE``."""
    if isinstance(value, list):
        for item in value:
            _shrink_sizes(item, full_size)
    elif isinstance(value, dict):
        for key in ('scale', 'crop_size'):
            if key in value:
                value[key] = tuple(size * IMAGE_SIZE // full_size for size in value[key])
        if 'ratio_range' in value:
            value.ratio_range = (0.9, 1.2)  # keeps a part of every object
        _shrink_sizes(value.get('transforms'), full_size)


def start_training(model) -> None:
    """Checks and loads pretrained weights in the order of MMEngine's Runner."""
    runner = SimpleNamespace(
        model=model,
        logger=MMLogger.get_current_instance(),
        cfg={},
        _load_from=None,
        _train_loop=object.__new__(EpochBasedTrainLoop),
    )
    CheckpointMatchHook().before_run(runner)
    model.init_weights()
