r"""DeiT-T as in ViTDet, trained with the recipe of WeightFormer-T, for comparison.

    NNODES=2 NODE_RANK=0 MASTER_ADDR=FIRST-MACHINE bash tools/dist_train.sh \
        configs/detection/vitdet-cascade-mask-rcnn_deit-tiny-p16_16xb4-amp-lsj-100e_coco.py 8

The pretrained backbone is made from an ImageNet checkpoint of mmpretrain's DeiT-T, such as the last
one of configs/classification/deit-tiny-p16_8xb256_in1k.py, by

    python tools/model_converters/deit_to_vitdet.py \
        CHECKPOINT checkpoints/deit-tiny_in1k_vitdet.pth

Attention is over windows of 14 x 14 tokens, and over the whole image in blocks 2, 5, 8 and 11. The
position embedding of 224 x 224 is interpolated; there are no relative position embeddings.
mmpretrain applies drop path to the MLPs only, detectron2 also to the attention.

Hardware: 16 GPUs (memory not measured). Box and mask AP, Vim's paper (as quoted in the paper):
44.4, 38.1. Ours: not run.
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
            embed_dims=192,
            num_layers=12,
            num_heads=3,
            feedforward_channels=768,
            global_attn_indexes=[2, 5, 8, 11],
        ),
        window_size=14,
        out_channels=0,
        use_rel_pos=False,
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/deit-tiny_in1k_vitdet.pth'),
    ),
    neck=dict(in_channels=192),
)
