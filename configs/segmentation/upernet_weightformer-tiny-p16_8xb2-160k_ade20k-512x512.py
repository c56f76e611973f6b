r"""WeightFormer-T with UperNet on ADE20K (paper section 5.3).

    bash tools/dist_train.sh \
        configs/segmentation/upernet_weightformer-tiny-p16_8xb2-160k_ade20k-512x512.py 8 \
        --cfg-options model.backbone.init_cfg.type=Pretrained \
        model.backbone.init_cfg.checkpoint=WEIGHTS

WEIGHTS: a checkpoint from ImageNet training of the same backbone, or the released file. Without the
two options the backbone is not pretrained, which this schedule is not meant for.

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
    backbone=dict(arch='tiny'),
    neck=dict(embed_dim=width),
    decode_head=dict(in_channels=[width] * 4, channels=width),
    auxiliary_head=dict(in_channels=width),
)
