r"""WeightFormer-T with Mask R-CNN on COCO: one box head instead of the cascade's three.

    NNODES=2 NODE_RANK=0 MASTER_ADDR=FIRST-MACHINE bash tools/dist_train.sh \
        configs/detection/vitdet-mask-rcnn_weightformer-tiny-p16_16xb4-amp-lsj-100e_coco.py 8

Hardware: 16 GPUs (memory not measured). Box and mask AP, paper: not given. Ours: not run.
"""

_base_ = [
    '../_base_/models/mask_rcnn_simple_fpn.py',
    '../_base_/datasets/coco_instance_lsj_1024.py',
    '../_base_/schedules/adamw_lsj_100e_bs64_weightformer.py',
    '../_base_/runtime/detection.py',
]

model = dict(
    backbone=dict(
        type='mmwf.WeightFormer',
        arch='tiny',
        drop_path_rate=0.1,
        final_norm=False,
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/weightformer-tiny_in1k.pth'),
    ),
    neck=dict(in_channels=192),
)
