# 300 epochs at a total batch size of 2048, with a learning rate of 4e-3 and 20 epochs of warm-up
# (paper section 5.1). The released code and DeiT use 5e-4 * batch size / 512, which is 2e-3 at
# 2048: see the configs with lr2e-3 in their name.
optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=4e-3, weight_decay=0.05, eps=1e-8, betas=(0.9, 0.999)),
    constructor='mmwf.OptimWrapperConstructor',
    # No weight decay for one-dimensional parameters and biases.
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0, flat_decay_mult=0.0),
    clip_grad=dict(max_norm=5.0),
)

param_scheduler = [
    # Over all 300 epochs, including the warm-up.
    dict(
        type='CosineAnnealingLR',
        eta_min_ratio=1e-2,
        T_max=300,
        begin=0,
        end=300,
        convert_to_iter_based=True,
    ),
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=20, convert_to_iter_based=True),
]

train_cfg = dict(by_epoch=True, max_epochs=300, val_interval=1)
val_cfg = dict()
test_cfg = dict()

# --auto-scale-lr multiplies the learning rate by the actual total batch size divided by this one.
auto_scale_lr = dict(base_batch_size=2048)
