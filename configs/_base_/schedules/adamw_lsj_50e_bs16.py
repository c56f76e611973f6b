# Mask2Former's schedule: 50 epochs of COCO at a total batch size of 16 are 368,750 iterations; the
# learning rate falls to a tenth after 88.9 % and again after 96.3 % of them (mmdet:
# configs/mask2former/mask2former_r50_8xb2-lsj-50e_coco-panoptic.py).
no_decay = dict(decay_mult=0.0)
optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=1e-4, weight_decay=0.05, betas=(0.9, 0.999)),
    clip_grad=dict(max_norm=0.01, norm_type=2),
    constructor='mmwf.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(
        # As in adamw_lsj_100e_bs64_weightformer.py. mmdet multiplies the backbone's rate by 0.1.
        layer_decay_rate=0.777,
        backbone_flat_decay_mult=0.0,
        # As in mmdet.
        norm_decay_mult=0.0,
        custom_keys=dict(query_embed=no_decay, query_feat=no_decay, level_embed=no_decay),
    ),
)

param_scheduler = [dict(type='MultiStepLR', milestones=[327778, 355092], gamma=0.1, by_epoch=False)]

train_cfg = dict(type='IterBasedTrainLoop', max_iters=368750, val_interval=5000)
val_cfg = dict()
test_cfg = dict()

# --auto-scale-lr multiplies the learning rate by the actual total batch size divided by this one.
auto_scale_lr = dict(base_batch_size=16)
