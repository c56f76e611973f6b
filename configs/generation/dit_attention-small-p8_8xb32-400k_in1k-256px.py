r"""DiT-S/8, with attention, under the recipe of WeightFormer-S/8, for comparison.

    bash tools/dist_train.sh \
        configs/generation/dit_attention-small-p8_8xb32-400k_in1k-256px.py 8 --amp

Hardware: 8 GPUs (memory not measured). FID-50K without guidance, DiT's paper: in its
table 4. Ours: not run.
"""

_base_ = 'dit_weightformer-small-p2_8xb32-400k_in1k-256px.py'

model = dict(denoiser=dict(arch='dit-small', patch_size=8))
