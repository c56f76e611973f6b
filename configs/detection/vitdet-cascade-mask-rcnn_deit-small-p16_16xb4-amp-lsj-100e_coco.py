r"""DeiT-S as in ViTDet, trained with the recipe of WeightFormer-S, for comparison. The config of
DeiT-T says how to make the pretrained weights, and lists the differences from detectron2.

    NNODES=2 NODE_RANK=0 MASTER_ADDR=FIRST-MACHINE bash tools/dist_train.sh \
        configs/detection/vitdet-cascade-mask-rcnn_deit-small-p16_16xb4-amp-lsj-100e_coco.py 8

Hardware: 16 GPUs (memory not measured). Box and mask AP, paper: not given. Ours: not run.
"""

_base_ = [
    '../_base_/models/cascade_mask_rcnn_simple_fpn.py',
    '../_base_/datasets/coco_instance_lsj_1024.py',
    '../_base_/schedules/adamw_lsj_100e_bs64_deit.py',
    '../_base_/runtime/detection.py',
]

model = dict(
    backbone=dict(
        type='mmpretrain.ViTSAM',
        arch=dict(
            embed_dims=384,
            num_layers=12,
            num_heads=6,
            feedforward_channels=1536,
            global_attn_indexes=[2, 5, 8, 11],
        ),
        window_size=14,
        out_channels=0,
        use_rel_pos=False,
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/deit-small_in1k_vitdet.pth'),
    ),
    neck=dict(in_channels=384),
)
