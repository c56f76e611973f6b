# ViTDet's schedule: 100 epochs of COCO at a total batch of 64 are 184,375 iterations; the rate
# falls to a tenth after 88.9 % and again after 96.3 % of them.
optim_wrapper = dict(
    type='mmwf.AmpOptimWrapper',  # bf16 where the device has it, else fp16 as in detectron2
    optimizer=dict(type='AdamW', lr=1e-4, weight_decay=0.1, betas=(0.9, 0.999)),
    constructor='mmwf.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(
        # 0.7 at the 12 layers of a ViT; at 17 layers the first one gets the same rate with
        # 0.7 ** (12 / 17).
        layer_decay_rate=0.777,
        # No decay for the backbone's LayerNorms (detectron2), nor for its biases (WeightFormer's
        # pre-training). Neck and heads decay as a whole, as in detectron2.
        backbone_flat_decay_mult=0.0,
    ),
)

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=250, by_epoch=False),
    dict(type='MultiStepLR', milestones=[163889, 177546], gamma=0.1, by_epoch=False),
]

train_cfg = dict(type='IterBasedTrainLoop', max_iters=184375, val_interval=5000)
val_cfg = dict()
test_cfg = dict()

# --auto-scale-lr: the rate grows with the real batch.
auto_scale_lr = dict(base_batch_size=64)
