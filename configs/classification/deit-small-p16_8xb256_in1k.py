"""DeiT-S, for comparison with WeightFormer-S: the same augmentation and schedule, but DeiT's own
learning rate and drop path rate.

    bash tools/dist_train.sh configs/classification/deit-small-p16_8xb256_in1k.py 8 --amp

Hardware: 8 GPUs (memory not measured). Top-1, DeiT's own recipe (as quoted in the paper): 79.8.
Ours: not run.
"""

_base_ = [
    '../_base_/models/deit_classifier.py',
    '../_base_/datasets/imagenet_224.py',
    '../_base_/schedules/adamw_300e_bs2048.py',
    '../_base_/runtime/classification.py',
]

model = dict(backbone=dict(arch='deit-small'), head=dict(in_channels=384))
# No weight decay for the class token and the position embedding.
no_decay = {'.cls_token': dict(decay_mult=0.0), '.pos_embed': dict(decay_mult=0.0)}
# DeiT's rule for the learning rate: 5e-4 * 2048 / 512.
optim_wrapper = dict(optimizer=dict(lr=2e-3), paramwise_cfg=dict(custom_keys=no_decay))
