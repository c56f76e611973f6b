"""Detectors' heads at toy size, and panoptic toy data."""

import json
from pathlib import Path

import cv2
import numpy as np
from mmengine.config import ConfigDict


def shrink_heads(model: ConfigDict, width: int, num_classes: int) -> None:
    """Shrinks what follows the neck of a detector of ``configs/detection``, in place.

    Args:
        model: ``cfg.model``. Types, losses and thresholds do not change, except that boxes of any
            score are kept in testing.
        width: Channels of the pyramid and of the heads, a multiple of 8.
        num_classes: Number of classes. In panoptic segmentation all but the first are stuff.
    """
    shrink = dict(
        MaskRCNN=_shrink_rcnn,
        CascadeRCNN=_shrink_rcnn,
        RetinaNet=_shrink_dense_head,
        FCOS=_shrink_dense_head,
        DINO=_shrink_dino,
        Mask2Former=_shrink_mask2former,
    )
    shrink[model.type](model, width, num_classes)


def _as_list(value) -> list:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _shrink_rcnn(model: ConfigDict, width: int, num_classes: int) -> None:
    model.rpn_head.update(in_channels=width, feat_channels=width)
    model.rpn_head.anchor_generator.scales = [2]
    roi_head = model.roi_head
    for part in (roi_head.bbox_roi_extractor, roi_head.mask_roi_extractor):
        part.out_channels = width
    for part in (*_as_list(roi_head.bbox_head), roi_head.mask_head):
        part.update(in_channels=width, conv_out_channels=width, num_classes=num_classes)
    for part in _as_list(roi_head.bbox_head):
        part.fc_out_channels = width
    for settings in (model.train_cfg.rpn_proposal, model.test_cfg.rpn):
        settings.update(nms_pre=50, max_per_img=50)
    for settings in (model.train_cfg.rpn, *_as_list(model.train_cfg.rcnn)):
        settings.sampler.num = 32
    model.test_cfg.rcnn.update(score_thr=0.0, max_per_img=10)


def _shrink_dense_head(model: ConfigDict, width: int, num_classes: int) -> None:
    head = model.bbox_head
    head.update(in_channels=width, feat_channels=width, num_classes=num_classes)
    if model.type == 'RetinaNet':
        head.anchor_generator.octave_base_scale = 2
    else:
        head.norm_cfg.num_groups = 4
        head.regress_ranges = ((-1, 4), (4, 8), (8, 16), (16, 32), (32, 1e8))
    model.test_cfg.update(nms_pre=50, score_thr=0.0, max_per_img=10)


def _shrink_dino(model: ConfigDict, width: int, num_classes: int) -> None:
    model.neck.out_channels = 256  # upstream's DINO supports no other width
    for part in (model.encoder, model.decoder):
        part.num_layers = 2
        part.layer_cfg.ffn_cfg.feedforward_channels = 2 * width
    model.bbox_head.num_classes = num_classes
    model.num_queries = 10
    model.dn_cfg.group_cfg.num_dn_queries = 6
    model.test_cfg.max_per_img = 10


def _shrink_mask2former(model: ConfigDict, width: int, num_classes: int) -> None:
    head = model.panoptic_head
    num_things = 1 if head.num_stuff_classes else num_classes
    classes = dict(num_things_classes=num_things, num_stuff_classes=num_classes - num_things)
    model.panoptic_fusion_head.update(classes)
    head.update(classes, in_channels=[width] * 4, feat_channels=width, out_channels=width)
    head.num_queries = 10
    head.loss_cls.class_weight = [1.0] * num_classes + [0.1]
    pixel_decoder = head.pixel_decoder
    pixel_decoder.norm_cfg.num_groups = 4
    pixel_decoder.encoder.num_layers = 2
    head.transformer_decoder.num_layers = 3
    for part in (pixel_decoder.encoder, head.transformer_decoder):
        for name, settings in part.layer_cfg.items():
            settings.embed_dims = width
            if name == 'ffn_cfg':
                settings.feedforward_channels = 2 * width
    for encoding in (pixel_decoder.positional_encoding, head.positional_encoding):
        encoding.num_feats = width // 2
    model.train_cfg.num_points = 64
    model.test_cfg.max_per_image = 10


def write_panoptic(root: Path) -> Path:
    """Adds panoptic annotations to the images of :func:`toy.write_coco`.

    The squares of the first category are things. Those of the second are stuff, one segment for
    all squares of an image. All other pixels are void.

    Args:
        root: Folder of the data; ``annotations/panoptic_{train,val}.json`` and ``.../*.png`` are
            written.

    Returns:
        ``root``.
    """
    for split in ('train', 'val'):
        instances = json.loads((root / f'annotations/instances_{split}.json').read_text())
        folder = root / f'annotations/panoptic_{split}'
        folder.mkdir()
        annotations = []
        for image in instances['images']:
            ids = np.zeros((image['height'], image['width']), np.int64)
            segments = []
            for square in instances['annotations']:
                if square['image_id'] != image['id']:
                    continue
                segment = 1000 * square['id'] + square['category_id']  # needs two colours
                x, y, width, height = square['bbox']
                ids[y : y + height, x : x + width] = segment
                segments.append(
                    dict(id=segment, **{k: square[k] for k in ('category_id', 'bbox', 'iscrowd')})
                )
            visible = []
            for segment in segments:  # a later square may cover it
                segment['area'] = int((ids == segment['id']).sum())
                visible += [segment] if segment['area'] else []
            name = image['file_name']
            blue_green_red = np.stack([ids >> 16, ids >> 8, ids], axis=-1) & 255
            cv2.imwrite(str(folder / name), blue_green_red.astype(np.uint8))
            annotations.append(dict(image_id=image['id'], file_name=name, segments_info=visible))
        categories = [
            dict(category, isthing=int(category['id'] == 1)) for category in instances['categories']
        ]
        content = dict(images=instances['images'], categories=categories, annotations=annotations)
        (root / f'annotations/panoptic_{split}.json').write_text(json.dumps(content))
    return root
