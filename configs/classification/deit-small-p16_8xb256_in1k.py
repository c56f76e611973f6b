"""DeiT-S trained with the recipe of WeightFormer-S, for comparison.

    bash tools/dist_train.sh configs/classification/deit-small-p16_8xb256_in1k.py 8 --amp

Hardware: 8 GPUs of 24 GB. Top-1, DeiT's own recipe (as quoted in the paper): 79.8. Ours: not run.
"""

_base_ = [
    '../_base_/models/deit_classifier.py',
    '../_base_/datasets/imagenet_224.py',
    '../_base_/schedules/adamw_300e_bs2048.py',
    '../_base_/runtime/classification.py',
]

# DeiT's own drop path rate; WeightFormer-S has 0.2.
model = dict(backbone=dict(arch='deit-small', drop_path_rate=0.1), head=dict(in_channels=384))
# No weight decay for the class token and the position embedding.
no_decay = {'.cls_token': dict(decay_mult=0.0), '.pos_embed': dict(decay_mult=0.0)}
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=no_decay))
