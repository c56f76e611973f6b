# The paper's section 5.1: 300 epochs, total batch 2048, 4e-3, 20 epochs of warm-up.
# The released code scales 5e-4 by batch / 512, which is 2e-3 at 2048 (and 4e-3 at 4096); to follow
# it, set optim_wrapper.optimizer.lr=2e-3 and the eta_min below to 2e-5.
base_lr = 4e-3

optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=base_lr, weight_decay=0.05, eps=1e-8, betas=(0.9, 0.999)),
    # No decay for one-dimensional parameters and biases.
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0, flat_decay_mult=0.0),
    clip_grad=dict(max_norm=5.0),
)

param_scheduler = [
    # Over all 300 epochs, warm-up included.
    dict(
        type='CosineAnnealingLR',
        eta_min=1e-2 * base_lr,
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

# --auto-scale-lr: the rate grows with the real batch.
auto_scale_lr = dict(base_batch_size=2048)
