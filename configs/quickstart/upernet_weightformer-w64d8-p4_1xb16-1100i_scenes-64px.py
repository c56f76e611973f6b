"""The quick start's segmentor: a small WeightFormer that segments handwritten digits on photos.

    bash tools/quickstart.sh segmentation

Its backbone is initialised from the quick start's classifier.

Neck and heads are those for ADE20K, with fewer channels. Patches of 4 pixels and rescaling by 2 to
1/4 give strides 2 to 16.

Hardware: two CPU cores. mIoU over eleven classes, target: 0.70. Ours: 0.72.
"""

_base_ = [
    '../_base_/models/upernet_feature2pyramid.py',
    '../_base_/datasets/digit_scenes_ade20k.py',
    '../_base_/runtime/segmentation.py',
]

width, channels, crop_size, max_iters = 64, 32, (64, 64), 1100
# With mmseg's std of 0.01 and so few channels, the head first learns to separate digits from
# background, and only hundreds of iterations later the digits from each other.
classifier_init = dict(type='Normal', std=0.1, override=dict(name='conv_seg'))
model = dict(
    data_preprocessor=dict(
        size=crop_size,
        test_cfg=dict(_delete_=True, size_divisor=16),
        mean=[127.5] * 3,
        std=[127.5] * 3,
    ),
    backbone=dict(
        type='mmwf.WeightFormer',
        arch=dict(embed_dims=width, depth=8, mlp_ratio=4),
        patch_size=4,
        out_indices=(1, 3, 5, 7),
        final_norm=False,
        drop_path_rate=0.0,
        init_cfg=dict(
            type='Pretrained', checkpoint='work_dirs/quickstart/classification/epoch_20.pth'
        ),
    ),
    neck=dict(embed_dim=width, rescales=[2, 1, 0.5, 0.25]),
    decode_head=dict(
        in_channels=[width] * 4, channels=channels, num_classes=11, init_cfg=classifier_init
    ),
    auxiliary_head=dict(
        in_channels=width, channels=channels, num_classes=11, init_cfg=classifier_init
    ),
    test_cfg=dict(_delete_=True, mode='whole'),
)
weights_help = 'Train them with: bash tools/quickstart.sh classification. '

optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=6e-3, weight_decay=0.05),
    constructor='mmwf.OptimWrapperConstructor',
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0, flat_decay_mult=0.0),
    clip_grad=dict(max_norm=5.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, end=50, by_epoch=False),
    dict(type='PolyLR', power=1.0, eta_min=0.0, begin=50, end=max_iters, by_epoch=False),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=max_iters // 2)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(base_batch_size=16)

default_hooks = dict(
    logger=dict(interval=20),
    checkpoint=dict(interval=max_iters // 2, max_keep_ckpts=2, save_best=None),
)
