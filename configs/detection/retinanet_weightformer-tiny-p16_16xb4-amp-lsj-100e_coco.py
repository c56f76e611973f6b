r"""WeightFormer-T with RetinaNet on COCO: a one-stage detector with anchors.

    NNODES=2 NODE_RANK=0 MASTER_ADDR=FIRST-MACHINE bash tools/dist_train.sh \
        configs/detection/retinanet_weightformer-tiny-p16_16xb4-amp-lsj-100e_coco.py 8

Our recipe: mmdet's RetinaNet head (mmdet: configs/_base_/models/retinanet_r50_fpn.py) on a simple
feature pyramid, with data and schedule of the Cascade Mask R-CNN in this folder.

Hardware: 16 GPUs (memory not measured). Box AP, paper: not given. Ours: not run.
"""

_base_ = [
    '../_base_/models/retinanet_simple_fpn.py',
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
