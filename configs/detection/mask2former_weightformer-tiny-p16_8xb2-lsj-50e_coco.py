r"""WeightFormer-T with Mask2Former on COCO: instance segmentation by mask classification.

    bash tools/dist_train.sh \
        configs/detection/mask2former_weightformer-tiny-p16_8xb2-lsj-50e_coco.py 8

Our recipe: model and optimizer of mmdet (mmdet: configs/mask2former/
mask2former_r50_8xb2-lsj-50e_coco.py) on a simple feature pyramid, with layer decay. Test images are
resized to 1024 x 1024 (mmdet: 1333 x 800).

Hardware: 8 GPUs (memory not measured). Box and mask AP, paper: not given. Ours: not run.
"""

_base_ = [
    '../_base_/models/mask2former_simple_fpn.py',
    '../_base_/datasets/coco_instance_lsj_1024.py',
    '../_base_/schedules/adamw_lsj_50e_bs16.py',
    '../_base_/runtime/detection.py',
]

model = dict(
    backbone=dict(
        arch='tiny',
        init_cfg=dict(checkpoint='checkpoints/weightformer-tiny_in1k.pth'),
    ),
    neck=dict(in_channels=192),
)

train_dataloader = dict(batch_size=2)
