# A denoiser trained by Gaussian diffusion as in DiT, on latents of 256 x 256 images from Stable
# Diffusion's VAE. A config sets denoiser.arch and denoiser.patch_size.
model = dict(
    type='mmwf.GaussianDiffusion',
    denoiser=dict(
        type='mmwf.Denoiser',
        input_size=32,
        in_channels=4,
        num_classes=1000,
        label_drop_rate=0.1,
    ),
    vae=dict(path='data/sd-vae-ft-ema', scale=0.18215),
    # As for DiT's FID-50K at 400 K iterations: no guidance.
    test_cfg=dict(sampler='ddpm', num_steps=250, cfg_scale=1.0, seed=0),
)
