# ViTDet's schedule: 100 epochs of COCO at a total batch size of 64 are 184,375 iterations; the
# learning rate falls to a tenth after 88.9 % and again after 96.3 % of them. Layer decay depends on
# the backbone: see adamw_lsj_100e_bs64_weightformer.py and adamw_lsj_100e_bs64_deit.py.
optim_wrapper = dict(
    type='mmwf.AmpOptimWrapper',  # bf16 where supported, else fp16 as in detectron2
    optimizer=dict(type='AdamW', lr=1e-4, weight_decay=0.1, betas=(0.9, 0.999)),
    constructor='mmwf.LayerDecayOptimWrapperConstructor',
)

warmup = dict(type='LinearLR', start_factor=1e-3, begin=0, end=250, by_epoch=False)
decay = dict(type='MultiStepLR', milestones=[163889, 177546], gamma=0.1, by_epoch=False)
param_scheduler = [warmup, decay]

train_cfg = dict(type='IterBasedTrainLoop', max_iters=184375, val_interval=5000)
val_cfg = dict()
test_cfg = dict()

# --auto-scale-lr multiplies the learning rate by the actual total batch size divided by this one.
auto_scale_lr = dict(base_batch_size=64)
