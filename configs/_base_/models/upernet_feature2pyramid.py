# UperNet on a backbone that keeps one resolution: Feature2Pyramid makes strides 4, 8, 16 and 32 of
# four of its blocks. The decoder is as wide as the backbone, which gives the paper's cost; 192 is
# WeightFormer-T's.
norm_cfg = dict(type='SyncBN', requires_grad=True)  # BN where there is no GPU
crop_size = (512, 512)

model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size=crop_size,
        test_cfg=dict(size=crop_size),  # pads what is narrower than the sliding window
    ),
    backbone=dict(
        type='mmwf.WeightFormer',
        arch='tiny',
        out_indices=(4, 8, 12, 16),
        final_norm=False,
        drop_path_rate=0.1,
    ),
    neck=dict(type='Feature2Pyramid', embed_dim=192, rescales=[4, 2, 1, 0.5], norm_cfg=norm_cfg),
    decode_head=dict(
        type='UPerHead',
        in_channels=[192] * 4,
        in_index=[0, 1, 2, 3],
        pool_scales=(1, 2, 3, 6),
        channels=192,
        dropout_ratio=0.1,
        num_classes=150,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
    ),
    # In training only.
    auxiliary_head=dict(
        type='FCNHead',
        in_channels=192,
        in_index=2,
        channels=256,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.1,
        num_classes=150,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=0.4),
    ),
    test_cfg=dict(mode='slide', crop_size=crop_size, stride=(341, 341)),
)
