r"""WeightFormer-S with UperNet on ADE20K (paper section 5.3). The config of WeightFormer-T says
how to make the pretrained weights.

    bash tools/dist_train.sh \
        configs/segmentation/upernet_weightformer-small-p16_8xb2-160k_ade20k-512x512.py 8

Hardware: 8 GPUs (memory not measured). mIoU, single-scale, paper: 45.6. Ours: not run.
"""

_base_ = [
    '../_base_/models/upernet_weightformer.py',
    '../_base_/datasets/ade20k_512.py',
    '../_base_/schedules/adamw_160k_bs16.py',
    '../_base_/runtime/segmentation.py',
]

width = 384
model = dict(
    backbone=dict(
        arch='small', init_cfg=dict(checkpoint='checkpoints/weightformer-small_in1k.pth')
    ),
    neck=dict(embed_dim=width),
    decode_head=dict(in_channels=[width] * 4, channels=width),
    auxiliary_head=dict(in_channels=width),
)
