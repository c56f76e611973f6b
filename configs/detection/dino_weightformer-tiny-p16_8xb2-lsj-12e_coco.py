r"""WeightFormer-T with DINO on COCO: a DETR with denoising queries, without NMS.

    bash tools/dist_train.sh \
        configs/detection/dino_weightformer-tiny-p16_8xb2-lsj-12e_coco.py 8

Our recipe: model and optimizer of mmdet (mmdet: configs/dino/dino-4scale_r50_8xb2-12e_coco.py) on a
simple feature pyramid, with layer decay and with the large-scale jitter of the other configs here.

Hardware: 8 GPUs (memory not measured). Box AP, paper: not given. Ours: not run.
"""

_base_ = [
    '../_base_/models/dino_simple_fpn.py',
    '../_base_/datasets/coco_instance_lsj_1024.py',
    '../_base_/schedules/adamw_lsj_12e_bs16.py',
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
# The masks of the data only give tight boxes after cropping.
val_evaluator = test_evaluator = dict(metric='bbox')
