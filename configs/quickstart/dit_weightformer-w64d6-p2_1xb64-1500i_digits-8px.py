"""The quick start's generator: a small WeightFormer that generates images of a given digit.

    bash tools/quickstart.sh generation

Hardware: two CPU cores. Share of samples that the quick start's classifier assigns to the requested
digit, target: 0.85. Ours: 1.000.
"""

_base_ = [
    '../_base_/models/gaussian_diffusion.py',
    '../_base_/datasets/digits_pixels.py',
    '../_base_/schedules/adamw_400k_bs256.py',
    '../_base_/runtime/generation.py',
]

model = dict(
    denoiser=dict(
        arch=dict(embed_dims=64, depth=6, mlp_ratio=4),
        patch_size=2,
        input_size=8,
        in_channels=1,
        num_classes=10,
    ),
    vae=None,
    data_preprocessor=dict(type='mmwf.PixelPreprocessor'),
    test_cfg=dict(sampler='ddim', num_steps=25, cfg_scale=2.0),
)

optim_wrapper = dict(
    optimizer=dict(lr=1e-2, betas=(0.9, 0.99)),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, end=100, by_epoch=False),
    dict(type='CosineAnnealingLR', eta_min_ratio=1e-2, T_max=1500, end=1500, by_epoch=False),
]
train_cfg = dict(max_iters=1500)
# Averages over the last hundred iterations only, since there are few.
custom_hooks = [
    dict(type='EMAHook', ema_type='ExponentialMovingAverage', momentum=1e-2, strict_load=True)
]
auto_scale_lr = dict(base_batch_size=64)

default_hooks = dict(logger=dict(interval=100), checkpoint=dict(interval=500, max_keep_ckpts=2))
