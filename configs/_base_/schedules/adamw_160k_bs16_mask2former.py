# 160 K iterations at a total batch size of 16, from mmseg's
# configs/mask2former/mask2former_r50_8xb2-160k_ade20k-512x512.py.
no_decay = dict(decay_mult=0.0)
optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=1e-4, weight_decay=0.05, eps=1e-8, betas=(0.9, 0.999)),
    constructor='mmwf.OptimWrapperConstructor',
    clip_grad=dict(max_norm=0.01, norm_type=2),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        custom_keys={
            'backbone': dict(lr_mult=0.1),
            'query_embed': no_decay,
            'query_feat': no_decay,
            'level_embed': no_decay,
        },
    ),
)

param_scheduler = [dict(type='PolyLR', power=0.9, eta_min=0.0, begin=0, end=160000, by_epoch=False)]

train_cfg = dict(type='IterBasedTrainLoop', max_iters=160000, val_interval=16000)
val_cfg = dict()
test_cfg = dict()

# --auto-scale-lr multiplies the learning rate by the actual total batch size divided by this one.
auto_scale_lr = dict(base_batch_size=16)
