# SegFormer's head of linear layers (mmseg: configs/_base_/models/segformer_mit-b0.py) on a pyramid
# of strides 4 to 32. A leaf sets neck.embed_dim and decode_head.in_channels, the backbone's width.
_base_ = 'weightformer_segmentor.py'

norm_cfg = dict(type='SyncBN', requires_grad=True)  # replaced by BN without a GPU

model = dict(
    neck=dict(type='Feature2Pyramid', rescales=[4, 2, 1, 0.5], norm_cfg=norm_cfg),
    decode_head=dict(
        type='SegformerHead',
        in_index=[0, 1, 2, 3],
        channels=256,
        dropout_ratio=0.1,
        num_classes=150,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
    ),
)
