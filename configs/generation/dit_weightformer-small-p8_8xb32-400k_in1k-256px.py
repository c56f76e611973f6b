r"""DiT with WeightFormer-S/8 on ImageNet-1K at 256 x 256 (paper section 5.4, table 7).

    bash tools/dist_train.sh \
        configs/generation/dit_weightformer-small-p8_8xb32-400k_in1k-256px.py 8 --amp

Hardware: 8 GPUs (memory not measured). FID-50K without guidance, paper: see its table 7.
Ours: not run.
"""

_base_ = [
    '../_base_/models/gaussian_diffusion.py',
    '../_base_/datasets/imagenet_latents_256.py',
    '../_base_/schedules/adamw_400k_bs256.py',
    '../_base_/runtime/generation.py',
]

model = dict(denoiser=dict(arch='weightformer-small', patch_size=8))
