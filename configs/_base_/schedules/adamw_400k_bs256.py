# DiT's schedule: a constant rate, no weight decay, no warm-up, 400 K iterations at a batch of 256.
optim_wrapper = dict(optimizer=dict(type='AdamW', lr=1e-4, weight_decay=0.0, betas=(0.9, 0.999)))
param_scheduler = []

train_cfg = dict(type='IterBasedTrainLoop', max_iters=400000)
test_cfg = dict()

# The average of the weights, which is what is tested and sampled from.
custom_hooks = [
    dict(type='EMAHook', ema_type='ExponentialMovingAverage', momentum=1e-4, strict_load=True)
]

# --auto-scale-lr: the rate grows with the real batch.
auto_scale_lr = dict(base_batch_size=256)
