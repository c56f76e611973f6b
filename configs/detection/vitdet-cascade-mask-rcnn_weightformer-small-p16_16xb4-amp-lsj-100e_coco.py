r"""WeightFormer-S with Cascade Mask R-CNN on COCO; see the tiny one for the pre-trained weights.

    NNODES=2 NODE_RANK=0 MASTER_ADDR=FIRST-MACHINE bash tools/dist_train.sh \
        configs/detection/vitdet-cascade-mask-rcnn_weightformer-small-p16_16xb4-amp-lsj-100e_coco.py 8

Hardware: 16 GPUs of 24 GB. Box and mask AP, paper: not given. Ours: not run.
"""  # noqa: E501

_base_ = 'vitdet-cascade-mask-rcnn_weightformer-tiny-p16_16xb4-amp-lsj-100e_coco.py'

model = dict(backbone=dict(arch='small'), neck=dict(in_channels=384))
