r"""Depth from a single image with WeightFormer-T on NYU Depth V2.

    bash tools/dist_train.sh configs/depth/depth_weightformer-tiny-p16_4xb8-25k_nyu-480x480.py 4

Our recipe: mmseg's head, loss, metrics, iterations and test of VPD
(configs/vpd/vpd_sd_4xb8-25k_nyu-480x480.py), with a head as wide as the backbone.

Hardware: 4 GPUs (memory not measured). RMSE in metres, paper: not given. Ours: not run.
"""

_base_ = [
    '../_base_/models/depth_weightformer.py',
    '../_base_/datasets/nyu_480.py',
    '../_base_/schedules/adamw_25k_bs32.py',
    '../_base_/runtime/segmentation.py',
]

width = 192
model = dict(
    backbone=dict(arch='tiny', init_cfg=dict(checkpoint='checkpoints/weightformer-tiny_in1k.pth')),
    neck=dict(embed_dim=width),
    decode_head=dict(in_channels=[width] * 4, feature_dim=width, embed_dim=width // 8),
)
default_hooks = dict(checkpoint=dict(interval=1000, save_best='rmse', rule='less'))
