r"""DeiT-T with UperNet on ADE20K, trained with the recipe of WeightFormer-T, for comparison.

    bash tools/dist_train.sh \
        configs/segmentation/upernet_deit-tiny-p16_8xb2-160k_ade20k-512x512.py 8

The pretrained backbone, checkpoints/deit-tiny_in1k.pth, is a copy of a checkpoint of mmpretrain's
DeiT-T: the last one of configs/classification/deit-tiny-p16_8xb256_in1k.py, or mmpretrain's
released file. The position embedding is interpolated.

Hardware: 8 GPUs (memory not measured). mIoU, single-scale, Vim's paper (as quoted in the paper):
39.2. Ours: not run.
"""

_base_ = [
    '../_base_/models/upernet_deit.py',
    '../_base_/datasets/ade20k_512.py',
    '../_base_/schedules/adamw_160k_bs16.py',
    '../_base_/runtime/segmentation.py',
]

width = 192
model = dict(
    backbone=dict(arch='deit-tiny', init_cfg=dict(checkpoint='checkpoints/deit-tiny_in1k.pth')),
    neck=dict(embed_dim=width),
    decode_head=dict(in_channels=[width] * 4, channels=width),
    auxiliary_head=dict(in_channels=width),
)
# No weight decay for the class token and the position embedding.
no_decay = {'.cls_token': dict(decay_mult=0.0), '.pos_embed': dict(decay_mult=0.0)}
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=no_decay))
