r"""WeightFormer-S with UperNet on ADE20K (paper section 5.3); see the tiny one for the weights.

    bash tools/dist_train.sh \
        configs/segmentation/upernet_weightformer-small-p16_8xb2-160k_ade20k-512x512.py 8

Hardware: 8 GPUs (memory not measured). mIoU, one scale, paper: 45.6. Ours: not run.
"""

_base_ = 'upernet_weightformer-tiny-p16_8xb2-160k_ade20k-512x512.py'

model = dict(
    backbone=dict(arch='small'),
    neck=dict(embed_dim=384),
    decode_head=dict(in_channels=[384] * 4, channels=384),
    auxiliary_head=dict(in_channels=384),
)
