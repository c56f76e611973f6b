# 160 K iterations at a total batch size of 16, from Vim's paper (appendix B) and UperNet with Swin.
optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=6e-5, weight_decay=0.01, betas=(0.9, 0.999)),
    constructor='mmwf.OptimWrapperConstructor',
    # No weight decay for one-dimensional parameters and biases.
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0, flat_decay_mult=0.0),
)

warmup = dict(type='LinearLR', start_factor=1e-6, begin=0, end=1500, by_epoch=False)
decay = dict(type='PolyLR', power=1.0, eta_min=0.0, begin=1500, end=160000, by_epoch=False)
param_scheduler = [warmup, decay]

train_cfg = dict(type='IterBasedTrainLoop', max_iters=160000, val_interval=16000)
val_cfg = dict()
test_cfg = dict()

# --auto-scale-lr multiplies the learning rate by the actual total batch size divided by this one.
auto_scale_lr = dict(base_batch_size=16)
