r"""DeiT-S with UperNet on ADE20K under the recipe of WeightFormer-S, for comparison; see the
tiny one for the weights.

    bash tools/dist_train.sh \
        configs/segmentation/upernet_deit-small-p16_8xb2-160k_ade20k-512x512.py 8

Hardware: 8 GPUs (memory not measured). mIoU, one scale, Vim's (as the paper quotes it): 44.0.
Ours: not run.
"""

_base_ = 'upernet_deit-tiny-p16_8xb2-160k_ade20k-512x512.py'

model = dict(
    backbone=dict(arch='deit-small'),
    neck=dict(embed_dim=384),
    decode_head=dict(in_channels=[384] * 4, channels=384),
    auxiliary_head=dict(in_channels=384),
)
