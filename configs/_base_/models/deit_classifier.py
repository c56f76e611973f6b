# DeiT without distillation, for comparison: same loss and mixing as weightformer_classifier.py, and
# DeiT's own drop path rate. A config sets backbone.arch and head.in_channels, the arch's width.
model = dict(
    type='ImageClassifier',
    backbone=dict(type='VisionTransformer', img_size=224, patch_size=16, drop_path_rate=0.1),
    head=dict(
        type='VisionTransformerClsHead',
        num_classes=1000,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    ),
    init_cfg=[
        dict(type='TruncNormal', layer='Linear', std=0.02),
        dict(type='Constant', layer='LayerNorm', val=1.0, bias=0.0),
    ],
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]),
)
