r"""DeiT-S in ViTDet's form under the recipe of WeightFormer-S, for comparison; see the tiny one.

    NNODES=2 NODE_RANK=0 MASTER_ADDR=FIRST-MACHINE bash tools/dist_train.sh \
        configs/detection/vitdet-cascade-mask-rcnn_deit-small-p16_16xb4-amp-lsj-100e_coco.py 8

Hardware: 16 GPUs of 24 GB. Box and mask AP, paper: not given. Ours: not run.
"""

_base_ = 'vitdet-cascade-mask-rcnn_deit-tiny-p16_16xb4-amp-lsj-100e_coco.py'

model = dict(
    backbone=dict(arch=dict(embed_dims=384, num_heads=6, feedforward_channels=1536)),
    neck=dict(in_channels=384),
)
