r"""WeightFormer-T with SegFormer's head on ADE20K.

    bash tools/dist_train.sh \
        configs/segmentation/segformer_weightformer-tiny-p16_8xb2-160k_ade20k-512x512.py 8

The head, and its learning rate of ten times that of the backbone, are those of mmseg's
configs/segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py; the rest is as for our UperNet.

Hardware: 8 GPUs (memory not measured). mIoU, paper: not given. Ours: not run.
"""

_base_ = [
    '../_base_/models/segformer_weightformer.py',
    '../_base_/datasets/ade20k_512.py',
    '../_base_/schedules/adamw_160k_bs16.py',
    '../_base_/runtime/segmentation.py',
]

width = 192
model = dict(
    backbone=dict(arch='tiny', init_cfg=dict(checkpoint='checkpoints/weightformer-tiny_in1k.pth')),
    neck=dict(embed_dim=width),
    decode_head=dict(in_channels=[width] * 4),
)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'decode_head': dict(lr_mult=10.0)}))
