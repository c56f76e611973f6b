r"""WeightFormer-T with Mask2Former on ADE20K.

    bash tools/dist_train.sh \
        configs/segmentation/mask2former_weightformer-tiny-p16_8xb2-160k_ade20k-512x512.py 8

Head, losses and schedule are those of mmseg's
configs/mask2former/mask2former_r50_8xb2-160k_ade20k-512x512.py; the crops, and the pyramid from a
single stride, are those of our UperNet. Whole images are tested, as there.

Hardware: 8 GPUs (memory not measured). mIoU, paper: not given. Ours: not run.
"""

_base_ = [
    '../_base_/models/mask2former_weightformer.py',
    '../_base_/datasets/ade20k_512.py',
    '../_base_/schedules/adamw_160k_bs16_mask2former.py',
    '../_base_/runtime/segmentation.py',
]

width = 192
model = dict(
    backbone=dict(arch='tiny', init_cfg=dict(checkpoint='checkpoints/weightformer-tiny_in1k.pth')),
    neck=dict(embed_dim=width),
    decode_head=dict(in_channels=[width] * 4),
)
# Test images have many sizes, and cuDNN would benchmark each of them.
env_cfg = dict(cudnn_benchmark=False)
