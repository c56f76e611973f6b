r"""WeightFormer-S with Cascade Mask R-CNN on COCO. The config of WeightFormer-T says how to make the
pretrained weights.

    NNODES=2 NODE_RANK=0 MASTER_ADDR=FIRST-MACHINE bash tools/dist_train.sh \
        configs/detection/vitdet-cascade-mask-rcnn_weightformer-small-p16_16xb4-amp-lsj-100e_coco.py 8

Hardware: 16 GPUs (memory not measured). Box and mask AP, paper: not given. Ours: not run.
"""  # noqa: E501

_base_ = [
    '../_base_/models/cascade_mask_rcnn_simple_fpn.py',
    '../_base_/datasets/coco_instance_lsj_1024.py',
    '../_base_/schedules/adamw_lsj_100e_bs64_weightformer.py',
    '../_base_/runtime/detection.py',
]

model = dict(
    backbone=dict(
        type='mmwf.WeightFormer',
        arch='small',
        drop_path_rate=0.1,
        final_norm=False,
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/weightformer-small_in1k.pth'),
    ),
    neck=dict(in_channels=384),
)
