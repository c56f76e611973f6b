# ViTDet's schedule with layer decay for WeightFormer's 17 blocks.
_base_ = 'adamw_lsj_100e_bs64.py'

optim_wrapper = dict(
    paramwise_cfg=dict(
        # 0.7 ** (12 / 17): the first of 17 layers gets the same learning rate as the first of a
        # ViT's 12 layers with ViTDet's 0.7.
        layer_decay_rate=0.777,
        # No weight decay for the backbone's LayerNorms (as in detectron2) and its biases (as in
        # WeightFormer's pretraining). Neck and heads decay as a whole, as in detectron2.
        backbone_flat_decay_mult=0.0,
    )
)
