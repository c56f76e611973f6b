r"""WeightFormer-T with Cascade Mask R-CNN on COCO for 12 epochs: a first look at a tenth of the cost.

    NNODES=2 NODE_RANK=0 MASTER_ADDR=FIRST-MACHINE bash tools/dist_train.sh \
        configs/detection/vitdet-cascade-mask-rcnn_weightformer-tiny-p16_16xb4-amp-lsj-12e_coco.py 8

Hardware: 16 GPUs of 24 GB. Box and mask AP, paper: not given. Ours: not run.
"""  # noqa: E501

_base_ = 'vitdet-cascade-mask-rcnn_weightformer-tiny-p16_16xb4-amp-lsj-100e_coco.py'

train_cfg = dict(max_iters=22125)
# Steps after the same share of the training as in 100 epochs.
param_scheduler = [
    _base_.param_scheduler[0],
    dict(_base_.param_scheduler[1], milestones=[19667, 21306]),
]
