# ViTDet's schedule with layer decay for DeiT's 12 layers.
_base_ = 'adamw_lsj_100e_bs64.py'

optim_wrapper = dict(
    paramwise_cfg=dict(
        layer_decay_rate=0.7,
        # detectron2's rule for a ViT: no weight decay for LayerNorms and the position embedding.
        # Biases decay.
        norm_decay_mult=0.0,
        custom_keys={'backbone.pos_embed': dict(decay_mult=0.0)},
    )
)
