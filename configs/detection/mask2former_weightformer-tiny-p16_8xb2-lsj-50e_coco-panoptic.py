r"""WeightFormer-T with Mask2Former on COCO: panoptic segmentation by mask classification.

    bash tools/dist_train.sh \
        configs/detection/mask2former_weightformer-tiny-p16_8xb2-lsj-50e_coco-panoptic.py 8

Our recipe: model and optimizer of mmdet (mmdet: configs/mask2former/
mask2former_r50_8xb2-lsj-50e_coco-panoptic.py) on a simple feature pyramid, with layer decay. Test
images are resized to 1024 x 1024 (mmdet: 1333 x 800).

Hardware: 8 GPUs (memory not measured). PQ, paper: not given. Ours: not run.
"""

_base_ = [
    '../_base_/models/mask2former_simple_fpn.py',
    '../_base_/datasets/coco_panoptic_lsj_1024.py',
    '../_base_/schedules/adamw_lsj_50e_bs16.py',
    '../_base_/runtime/detection.py',
]

heads = dict(num_things_classes=80, num_stuff_classes=53)
model = dict(
    data_preprocessor=dict(pad_seg=True),
    backbone=dict(
        arch='tiny',
        init_cfg=dict(checkpoint='checkpoints/weightformer-tiny_in1k.pth'),
    ),
    neck=dict(in_channels=192),
    panoptic_head=dict(heads, loss_cls=dict(class_weight=[1.0] * 133 + [0.1])),
    panoptic_fusion_head=heads,
    test_cfg=dict(panoptic_on=True, instance_on=False),
)

default_hooks = dict(checkpoint=dict(save_best='coco_panoptic/PQ', rule='greater'))
