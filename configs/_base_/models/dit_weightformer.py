# DiT with WeightFormer's blocks, on the latents of Stable Diffusion's autoencoder.
model = dict(
    type='mmwf.GaussianDiffusion',
    denoiser=dict(
        type='mmwf.Denoiser',
        arch='weightformer-small',
        input_size=32,
        patch_size=2,
        in_channels=4,
        num_classes=1000,
        label_drop_rate=0.1,
    ),
    vae=dict(path='data/sd-vae-ft-ema', scale=0.18215),
    # As DiT computes its FID-50K at 400 K iterations: without guidance.
    test_cfg=dict(sampler='ddpm', num_steps=250, cfg_scale=1.0, seed=0),
)
