# DiT's schedule: 400 K iterations at a total batch size of 256, with a constant learning rate,
# without weight decay or warm-up.
optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=1e-4, weight_decay=0.0, betas=(0.9, 0.999)),
    constructor='mmwf.OptimWrapperConstructor',
)
param_scheduler = []

train_cfg = dict(type='IterBasedTrainLoop', max_iters=400000)
test_cfg = dict()

# Testing and sampling use the exponential moving average of the weights.
custom_hooks = [
    dict(type='EMAHook', ema_type='ExponentialMovingAverage', momentum=1e-4, strict_load=True)
]

# --auto-scale-lr multiplies the learning rate by the actual total batch size divided by this one.
auto_scale_lr = dict(base_batch_size=256)
