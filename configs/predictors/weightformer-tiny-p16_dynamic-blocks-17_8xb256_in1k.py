r"""WeightFormer-T with all 17 blocks dynamic, which underfits in the paper (table 6).

    bash tools/dist_train.sh \
        configs/predictors/weightformer-tiny-p16_dynamic-blocks-17_8xb256_in1k.py 8 --amp

Hardware: 8 GPUs (the paper: 8 RTX 3090, 24 GB). Top-1, paper: not known. Ours: not run.
"""

_base_ = [
    '../_base_/models/weightformer_classifier.py',
    '../_base_/datasets/imagenet_224.py',
    '../_base_/schedules/adamw_300e_bs2048.py',
    '../_base_/runtime/classification.py',
]

model = dict(backbone=dict(arch='tiny', dynamic_blocks='all'), head=dict(in_channels=192))
