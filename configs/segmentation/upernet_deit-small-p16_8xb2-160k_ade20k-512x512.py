r"""DeiT-S with UperNet on ADE20K, trained with the recipe of WeightFormer-S, for comparison. The
config of DeiT-T says where the pretrained weights come from.

    bash tools/dist_train.sh \
        configs/segmentation/upernet_deit-small-p16_8xb2-160k_ade20k-512x512.py 8

Hardware: 8 GPUs (memory not measured). mIoU, single-scale, Vim's paper (as quoted in the paper):
44.0. Ours: not run.
"""

_base_ = [
    '../_base_/models/upernet_deit.py',
    '../_base_/datasets/ade20k_512.py',
    '../_base_/schedules/adamw_160k_bs16.py',
    '../_base_/runtime/segmentation.py',
]

width = 384
model = dict(
    backbone=dict(arch='deit-small', init_cfg=dict(checkpoint='checkpoints/deit-small_in1k.pth')),
    neck=dict(embed_dim=width),
    decode_head=dict(in_channels=[width] * 4, channels=width),
    auxiliary_head=dict(in_channels=width),
)
# No weight decay for the class token and the position embedding.
no_decay = {'.cls_token': dict(decay_mult=0.0), '.pos_embed': dict(decay_mult=0.0)}
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=no_decay))
