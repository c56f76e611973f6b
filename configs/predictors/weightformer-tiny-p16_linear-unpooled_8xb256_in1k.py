r"""The first linear layer predicted linearly from X^T X of all tokens, not averaged over 2 x 2
before (paper table 2).

    bash tools/dist_train.sh \
        configs/predictors/weightformer-tiny-p16_linear-unpooled_8xb256_in1k.py 8 --amp

Hardware: 8 GPUs of 24 GB (the paper: 8 RTX 3090). Top-1, paper: not known. Ours: not run.
"""

_base_ = '../classification/weightformer-tiny-p16_8xb256_in1k.py'

model = dict(backbone=dict(dynamic_layers=['fc1'], linear_predictor='unpooled'))
