"""Models of mmdet and mmseg that need mmcv.ops: one training step and one prediction, tiny."""

import copy
from pathlib import Path

import mmdet
import mmseg
import pytest
import torch
from mmdet.testing import demo_mm_inputs
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

CLASSES = 3
#: At 64 pixels, PyTorch's bf16 convolution of one pixel with stride 2 has NaN as its gradient.
SIDE = 96


def read_model(library, path, options):
    """Reads the model of a config that a library ships, made small, without pretrained weights."""
    file = Path(library.__file__).parent / '.mim/configs' / path
    model = Config.fromfile(file).model
    model.backbone.init_cfg = model.init_cfg = None
    model.pop('pretrained', None)
    config = Config(dict(model=model))
    config.merge_from_dict(options)
    return config.model


SMALL_HOURGLASS = {
    'model.backbone.num_stacks': 1,
    'model.backbone.downsample_times': 1,
    'model.backbone.stage_channels': [8, 8],
    'model.backbone.stage_blocks': [1, 1],
    'model.backbone.feat_channel': 8,
    'model.bbox_head.in_channels': 8,
    'model.bbox_head.num_feat_levels': 1,
}
DETECTORS = {
    'deformable_detr/deformable-detr_r50_16xb2-50e_coco.py': {
        'model.num_queries': 5,
        'model.test_cfg.max_per_img': 5,
        'model.encoder.num_layers': 1,
        'model.decoder.num_layers': 2,
        'model.bbox_head.num_classes': CLASSES,
    },
    'dino/dino-4scale_r50_8xb2-12e_coco.py': {
        'model.num_queries': 8,
        'model.test_cfg.max_per_img': 5,
        'model.encoder.num_layers': 1,
        'model.decoder.num_layers': 2,
        'model.bbox_head.num_classes': CLASSES,
        'model.dn_cfg.group_cfg.num_dn_queries': 4,
    },
    'tood/tood_r50_fpn_1x_coco.py': {
        'model.bbox_head.num_classes': CLASSES,
    },
    'reppoints/reppoints-moment_r50_fpn_1x_coco.py': {'model.bbox_head.num_classes': CLASSES},
    'vfnet/vfnet_r50-mdconv-c3-c5_fpn_ms-2x_coco.py': {'model.bbox_head.num_classes': CLASSES},
    'cornernet/cornernet_hourglass104_8xb6-210e-mstest_coco.py': {
        **SMALL_HOURGLASS,
        'model.bbox_head.num_classes': CLASSES,
    },
    'mask2former/mask2former_r50_8xb2-lsj-50e_coco.py': {
        'model.panoptic_head.num_things_classes': CLASSES,
        'model.panoptic_fusion_head.num_things_classes': CLASSES,
        'model.panoptic_head.num_queries': 5,
        'model.panoptic_head.pixel_decoder.encoder.num_layers': 1,
        'model.panoptic_head.transformer_decoder.num_layers': 3,
        'model.panoptic_head.loss_cls.class_weight': [1.0] * CLASSES + [0.1],
        'model.train_cfg.num_points': 64,
        'model.test_cfg.max_per_image': 5,
        'model.data_preprocessor.batch_augments': None,  # pads to 1024 pixels
    },
    'point_rend/point-rend_r50-caffe_fpn_ms-1x_coco.py': {
        'model.roi_head.bbox_head.num_classes': CLASSES,
        'model.roi_head.mask_head.num_classes': CLASSES,
        'model.roi_head.point_head.num_classes': CLASSES,
    },
    'carafe/faster-rcnn_r50_fpn-carafe_1x_coco.py': {
        'model.roi_head.bbox_head.num_classes': CLASSES,
        'model.test_cfg.rcnn.nms': dict(type='soft_nms', iou_threshold=0.5, min_score=0.05),
        'model.test_cfg.rcnn.score_thr': 0.0,
    },
    'guided_anchoring/ga-retinanet_r50_fpn_1x_coco.py': {'model.bbox_head.num_classes': CLASSES},
}


#: In mmdet itself, a loss of this head mixes precisions.
NO_AMP = 'vfnet/vfnet_r50-mdconv-c3-c5_fpn_ms-2x_coco.py'


def train_step(model, data, amp):
    """Computes the losses and their gradients; under autocast to bf16 if ``amp``."""
    with torch.autocast('cpu', torch.bfloat16, enabled=amp):
        losses = model(**data, mode='loss')
    values = [
        x.float().mean()
        for name, value in losses.items()
        if 'loss' in name
        for x in (value if isinstance(value, list) else [value])
    ]
    total = sum(values)
    assert values and total.isfinite()
    total.backward()
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(grad.isfinite().all() for grad in grads) and any(grad.any() for grad in grads)


@pytest.mark.parametrize('amp', [False, True])
@pytest.mark.parametrize('path', DETECTORS)
def test_detectors_train_and_predict(path, amp):
    if amp and path == NO_AMP:
        pytest.skip("mmdet's VFNetHead does not support bf16")
    MessageHub.get_current_instance().update_info('epoch', 9)  # TOOD asks for it
    with DefaultScope.overwrite_default_scope('mmdet'):
        detector = MODELS.build(read_model(mmdet, path, DETECTORS[path]))
        detector.init_weights()  # some parameters are uninitialized memory before
        data = demo_mm_inputs(
            1, [[3, SIDE, SIDE]], num_items=[2], num_classes=CLASSES, with_mask=True
        )
        train_step(detector, detector.data_preprocessor(copy.deepcopy(data), training=True), amp)
        detector.eval()
        data = detector.data_preprocessor(data, training=False)
        with torch.no_grad(), torch.autocast('cpu', torch.bfloat16, enabled=amp):
            (result,) = detector(**data, mode='predict')
    assert result.pred_instances.scores.isfinite().all()


SEGMENTORS = {
    'mask2former/mask2former_r50_8xb2-160k_ade20k-512x512.py': {
        'model.decode_head.num_classes': CLASSES,
        'model.decode_head.num_queries': 5,
        'model.decode_head.pixel_decoder.encoder.num_layers': 1,
        'model.decode_head.transformer_decoder.num_layers': 3,
        'model.decode_head.loss_cls.class_weight': [1.0] * CLASSES + [0.1],
        'model.decode_head.train_cfg.num_points': 64,
    },
    'point_rend/pointrend_r50_4xb4-160k_ade20k-512x512.py': {},
    'psanet/psanet_r50-d8_4xb2-40k_cityscapes-512x1024.py': {
        'model.decode_head.mask_size': (9, 9),
    },
    'ccnet/ccnet_r50-d8_4xb2-40k_cityscapes-512x1024.py': {},
}


@pytest.mark.parametrize('path', SEGMENTORS)
def test_segmentors_train_and_predict(path):
    options = {
        'model.data_preprocessor.size': (64, 64),
        'model.test_cfg.mode': 'whole',
        **SEGMENTORS[path],
    }
    sample = SegDataSample(metainfo=dict(img_shape=(64, 64), ori_shape=(64, 64)))
    sample.gt_sem_seg = PixelData(data=torch.arange(64 * 64).view(1, 64, 64) // 1024 % CLASSES)
    data = dict(inputs=[torch.randint(256, (3, 64, 64)).byte()], data_samples=[sample])
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = revert_sync_batchnorm(MODELS.build(read_model(mmseg, path, options)))
        model.init_weights()
        both = {key: value * 2 for key, value in data.items()}  # batch norm after global pooling
        train_step(model, model.data_preprocessor(both, training=True), amp=False)
        model.eval()
        with torch.no_grad():
            (result,) = model.test_step(data)
    assert result.pred_sem_seg.shape == (64, 64)
