r"""DiT-B/4, with attention, under the recipe of WeightFormer-B/4, for comparison.

    bash tools/dist_train.sh \
        configs/generation/dit_attention-base-p4_8xb32-400k_in1k-256px.py 8 --amp

Hardware: 8 GPUs (memory not measured). FID-50K without guidance, DiT's paper: in its
table 4. Ours: not run.
"""

_base_ = 'dit_weightformer-small-p2_8xb32-400k_in1k-256px.py'

model = dict(denoiser=dict(arch='dit-base', patch_size=4))
