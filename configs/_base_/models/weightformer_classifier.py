# WeightFormer with mean pooling and a linear head. The arch's drop path is the paper's.
model = dict(
    type='ImageClassifier',
    backbone=dict(type='mmwf.WeightFormer', arch='tiny', out_type='avg_featmap'),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=192,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.02),
    ),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]),
)
