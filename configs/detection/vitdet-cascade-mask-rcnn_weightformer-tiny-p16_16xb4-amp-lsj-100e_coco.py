r"""WeightFormer-T with Cascade Mask R-CNN on COCO, in the style of ViTDet (paper section 5.2).

    NNODES=2 NODE_RANK=0 MASTER_ADDR=FIRST-MACHINE bash tools/dist_train.sh \
        configs/detection/vitdet-cascade-mask-rcnn_weightformer-tiny-p16_16xb4-amp-lsj-100e_coco.py 8

The pretrained backbone, checkpoints/weightformer-tiny_in1k.pth, is converted from the released
weights by

    mmwf official-to-mmwf hf://RuizeHe/weightformer-t checkpoints/weightformer-tiny_in1k.pth

or is a copy of the last checkpoint of your own ImageNet training. To train without it, which this
schedule is not meant for, add --cfg-options model.backbone.init_cfg=None.

Hardware: 16 GPUs (memory not measured). Box and mask AP, paper: 45.0, 38.3. Ours: not run.
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
        arch='tiny',
        drop_path_rate=0.1,
        final_norm=False,
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/weightformer-tiny_in1k.pth'),
    ),
    neck=dict(in_channels=192),
)
