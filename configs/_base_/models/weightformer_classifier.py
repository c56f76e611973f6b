# WeightFormer with mean pooling and a linear head. A config sets backbone.arch, which includes the
# paper's drop path rate, and head.in_channels, the width of that arch.
model = dict(
    type='ImageClassifier',
    backbone=dict(type='mmwf.WeightFormer', out_type='avg_featmap'),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.02),
    ),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]),
)
