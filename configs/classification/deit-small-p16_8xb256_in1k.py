"""DeiT-S under the recipe of WeightFormer-S, for comparison.

    bash tools/dist_train.sh configs/classification/deit-small-p16_8xb256_in1k.py 8 --amp

Hardware: 8 GPUs of 24 GB. Top-1, DeiT's own recipe (as the paper quotes it): 79.8. Ours: not run.
"""

_base_ = 'deit-tiny-p16_8xb256_in1k.py'

# DeiT's own drop path; the arch of WeightFormer-S brings 0.2.
model = dict(backbone=dict(arch='deit-small', drop_path_rate=0.1), head=dict(in_channels=384))
