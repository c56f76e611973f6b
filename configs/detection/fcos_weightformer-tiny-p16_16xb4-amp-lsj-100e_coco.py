r"""WeightFormer-T with FCOS on COCO: a one-stage detector without anchors.

    NNODES=2 NODE_RANK=0 MASTER_ADDR=FIRST-MACHINE bash tools/dist_train.sh \
        configs/detection/fcos_weightformer-tiny-p16_16xb4-amp-lsj-100e_coco.py 8

Our recipe: mmdet's improved FCOS head (mmdet: configs/fcos/
fcos_r50_fpn_gn-head-center-normbbox-centeronreg-giou_8xb8-amp-lsj-200e_coco.py) on a simple feature
pyramid, with data and schedule of the Cascade Mask R-CNN in this folder.

Hardware: 16 GPUs (memory not measured). Box AP, paper: not given. Ours: not run.
"""

_base_ = [
    '../_base_/models/fcos_simple_fpn.py',
    '../_base_/datasets/coco_instance_lsj_1024.py',
    '../_base_/schedules/adamw_lsj_100e_bs64_weightformer.py',
    '../_base_/runtime/detection.py',
]

model = dict(
    backbone=dict(
        arch='tiny',
        init_cfg=dict(checkpoint='checkpoints/weightformer-tiny_in1k.pth'),
    ),
    neck=dict(in_channels=192),
)

# The masks of the data only give tight boxes after cropping.
val_evaluator = test_evaluator = dict(metric='bbox')
