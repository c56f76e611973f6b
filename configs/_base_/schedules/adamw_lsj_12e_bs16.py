# DINO's schedule: 12 epochs of COCO at a total batch size of 16 are 88,500 iterations; the learning
# rate falls to a tenth after 11 of them (mmdet: configs/dino/dino-4scale_r50_8xb2-12e_coco.py).
optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=1e-4, weight_decay=1e-4, betas=(0.9, 0.999)),
    clip_grad=dict(max_norm=0.1, norm_type=2),
    constructor='mmwf.LayerDecayOptimWrapperConstructor',
    # As in adamw_lsj_100e_bs64_weightformer.py. mmdet multiplies the rate of the backbone by 0.1;
    # detrex decays that of EVA-02 by layer, with 0.7 for 12 layers
    # (projects/dino/configs/dino-eva-02/dino_eva_02_vitdet_b_4attn_1024_lrd0p7_4scale_12ep.py).
    paramwise_cfg=dict(layer_decay_rate=0.777, backbone_flat_decay_mult=0.0),
)

param_scheduler = [dict(type='MultiStepLR', milestones=[81125], gamma=0.1, by_epoch=False)]

train_cfg = dict(type='IterBasedTrainLoop', max_iters=88500, val_interval=5000)
val_cfg = dict()
test_cfg = dict()

# --auto-scale-lr multiplies the learning rate by the actual total batch size divided by this one.
auto_scale_lr = dict(base_batch_size=16)
