"""The quick start's detector: a small WeightFormer that detects handwritten digits on photos.

    bash tools/quickstart.sh detection

Its backbone is initialised from the quick start's classifier.

Neck, heads and losses are those for COCO, with fewer channels and boxes. Patches of 4 pixels give
strides 2 to 16.

Hardware: two CPU cores. Box and mask AP50, target: 0.60. Ours: 0.84 and 0.81.
"""

_base_ = [
    '../_base_/models/cascade_mask_rcnn_simple_fpn.py',
    '../_base_/datasets/digit_scenes_coco.py',
    '../_base_/runtime/detection.py',
]

width, num_classes, num_proposals = 32, 10, 100
strides = [2, 4, 8, 16]
roi_extractor = dict(
    roi_layer=dict(sampling_ratio=2),
    out_channels=width,
    featmap_strides=strides[:-1],
    finest_scale=28,
)
box_head = dict(
    in_channels=width, conv_out_channels=width, fc_out_channels=128, num_classes=num_classes
)
model = dict(
    # The classifier's normalisation.
    data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3, pad_size_divisor=64),
    backbone=dict(
        type='mmwf.WeightFormer',
        arch=dict(embed_dims=64, depth=8, mlp_ratio=4),
        patch_size=4,
        drop_path_rate=0.0,
        final_norm=False,
        init_cfg=dict(
            type='Pretrained', checkpoint='work_dirs/quickstart/classification/epoch_20.pth'
        ),
    ),
    neck=dict(in_channels=64, out_channels=width, scale_factors=(2, 1, 0.5)),
    rpn_head=dict(
        in_channels=width, feat_channels=width, anchor_generator=dict(scales=[4], strides=strides)
    ),
    roi_head=dict(
        bbox_roi_extractor=roi_extractor,
        bbox_head=[dict(stage, **box_head) for stage in _base_.model.roi_head.bbox_head],
        mask_roi_extractor=roi_extractor,
        mask_head=dict(in_channels=width, conv_out_channels=width, num_classes=num_classes),
    ),
    train_cfg=dict(
        rpn=dict(sampler=dict(num=64)),
        rpn_proposal=dict(nms_pre=200, max_per_img=num_proposals),
        rcnn=[
            dict(stage, sampler=dict(stage.sampler, num=16, pos_fraction=0.5))
            for stage in _base_.model.train_cfg.rcnn
        ],
    ),
    test_cfg=dict(rpn=dict(nms_pre=200, max_per_img=num_proposals)),
)
weights_help = 'Train them with: bash tools/quickstart.sh classification. '

max_iters = 300
optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=3e-3, weight_decay=0.05),
    constructor='mmwf.OptimWrapperConstructor',
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0, flat_decay_mult=0.0),
    clip_grad=dict(max_norm=5.0),
)
param_scheduler = [
    dict(
        type='CosineAnnealingLR', eta_min_ratio=1e-2, T_max=max_iters, end=max_iters, by_epoch=False
    ),
    dict(type='LinearLR', start_factor=1e-2, end=30, by_epoch=False),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=max_iters)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(base_batch_size=16)

default_hooks = dict(
    logger=dict(interval=25),
    checkpoint=dict(interval=max_iters // 2, max_keep_ckpts=2, save_best=None),
)
