r"""DiT-S/4, with attention, trained with the recipe of WeightFormer-S/4, for comparison.

    bash tools/dist_train.sh \
        configs/generation/dit_attention-small-p4_8xb32-400k_in1k-256px.py 8 --amp

Hardware: 8 GPUs (memory not measured). FID-50K without guidance, DiT's paper: see its table 4.
Ours: not run.
"""

_base_ = [
    '../_base_/models/gaussian_diffusion.py',
    '../_base_/datasets/imagenet_latents_256.py',
    '../_base_/schedules/adamw_400k_bs256.py',
    '../_base_/runtime/generation.py',
]

model = dict(denoiser=dict(arch='dit-small', patch_size=4))
