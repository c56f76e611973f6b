r"""DeiT-T in ViTDet's form under the recipe of WeightFormer-T, for comparison.

    NNODES=2 NODE_RANK=0 MASTER_ADDR=FIRST-MACHINE bash tools/dist_train.sh \
        configs/detection/vitdet-cascade-mask-rcnn_deit-tiny-p16_16xb4-amp-lsj-100e_coco.py 8 \
        --cfg-options model.backbone.init_cfg.type=Pretrained \
        model.backbone.init_cfg.checkpoint=WEIGHTS

WEIGHTS: what tools/model_converters/deit_to_vitdet.py makes from an ImageNet checkpoint of DeiT-T.

Attention works in windows of 14 x 14 tokens, and over the whole image in blocks 2, 5, 8 and 11. The
position embedding of 224 x 224 is interpolated; there is no relative one. mmpretrain's drop path
acts on the MLPs alone, detectron2's also on the attention.

Hardware: 16 GPUs of 24 GB. Box and mask AP, Vim's (as the paper quotes it): 44.4, 38.1. Ours: not
run.
"""

_base_ = 'vitdet-cascade-mask-rcnn_weightformer-tiny-p16_16xb4-amp-lsj-100e_coco.py'

model = dict(
    backbone=dict(
        _delete_=True,
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
    )
)
# detectron2's rule for a ViT: LayerNorms and the position embedding do not decay, biases do.
decay_mults = dict(norm_decay_mult=0.0, custom_keys={'backbone.pos_embed': dict(decay_mult=0.0)})
optim_wrapper = dict(paramwise_cfg=dict(_delete_=True, layer_decay_rate=0.7, **decay_mults))
