# A linear classifier on the features of a frozen WeightFormer. A config sets backbone.arch, its
# pretrained weights (backbone.init_cfg.checkpoint) and head.in_channels, the width of that arch.
_base_ = 'weightformer_classifier.py'

model = dict(
    backbone=dict(frozen_stages=17, init_cfg=dict(type='Pretrained')),  # all blocks, and the norm
    head=dict(
        loss=dict(_delete_=True, type='CrossEntropyLoss'),
        init_cfg=dict(_delete_=True, type='Normal', layer='Linear', std=0.01),
    ),
    train_cfg=dict(_delete_=True),  # no Mixup or CutMix
)

weights_help = """Get the released weights, for WeightFormer-T by
    mmwf official-to-mmwf hf://RuizeHe/weightformer-t checkpoints/weightformer-tiny_in1k.pth
or copy the last checkpoint of your own training there.
"""
