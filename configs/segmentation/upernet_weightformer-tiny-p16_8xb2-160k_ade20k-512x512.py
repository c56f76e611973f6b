r"""WeightFormer-T with UperNet on ADE20K (paper section 5.3).

    bash tools/dist_train.sh \
        configs/segmentation/upernet_weightformer-tiny-p16_8xb2-160k_ade20k-512x512.py 8

The pretrained backbone, checkpoints/weightformer-tiny_in1k.pth, is converted from the released
weights by

    mmwf official-to-mmwf hf://RuizeHe/weightformer-t checkpoints/weightformer-tiny_in1k.pth

or is a copy of the last checkpoint of your own ImageNet training. To train without it, which this
schedule is not meant for, add --cfg-options model.backbone.init_cfg=None.

Hardware: 8 GPUs (memory not measured). mIoU, single-scale, paper: 40.7. Ours: not run.
"""

_base_ = [
    '../_base_/models/upernet_weightformer.py',
    '../_base_/datasets/ade20k_512.py',
    '../_base_/schedules/adamw_160k_bs16.py',
    '../_base_/runtime/segmentation.py',
]

width = 192
model = dict(
    backbone=dict(arch='tiny', init_cfg=dict(checkpoint='checkpoints/weightformer-tiny_in1k.pth')),
    neck=dict(embed_dim=width),
    decode_head=dict(in_channels=[width] * 4, channels=width),
    auxiliary_head=dict(in_channels=width),
)
