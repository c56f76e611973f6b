# The linear probe of MoCo v3: 90 epochs of SGD at a total batch size of 1024, without weight decay
# (mmpretrain: configs/mocov3/benchmarks/vit-small-p16_8xb128-linear-coslr-90e_in1k.py).
optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=12.0, momentum=0.9, weight_decay=0.0),
    constructor='mmwf.OptimWrapperConstructor',
)

param_scheduler = [dict(type='CosineAnnealingLR', eta_min_ratio=0.0, T_max=90, begin=0, end=90)]

train_cfg = dict(by_epoch=True, max_epochs=90, val_interval=1)
val_cfg = dict()
test_cfg = dict()

# --auto-scale-lr multiplies the learning rate by the actual total batch size divided by this one.
auto_scale_lr = dict(base_batch_size=1024)
