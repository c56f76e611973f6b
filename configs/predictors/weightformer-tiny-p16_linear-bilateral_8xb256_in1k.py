r"""The first linear layer predicted by bilateral activation (paper table 2, eq. 8).

    bash tools/dist_train.sh \
        configs/predictors/weightformer-tiny-p16_linear-bilateral_8xb256_in1k.py 8 --amp

Hardware: 8 GPUs of 24 GB (the paper: 8 RTX 3090). Top-1, paper: 76.4. Ours: not run.
"""

_base_ = '../classification/weightformer-tiny-p16_8xb256_in1k.py'

model = dict(backbone=dict(dynamic_layers=['fc1'], linear_predictor='bilateral'))
