r"""The depthwise convolution predicted cell by cell (paper table 2, eq. 11).

    bash tools/dist_train.sh \
        configs/predictors/weightformer-tiny-p16_dwconv-adaptive_8xb256_in1k.py 8 --amp

Hardware: 8 GPUs of 24 GB (the paper: 8 RTX 3090). Top-1, paper: not known. Ours: not run.
"""

_base_ = '../classification/weightformer-tiny-p16_8xb256_in1k.py'

model = dict(backbone=dict(dynamic_layers=['dwconv'], dwconv_predictor='adaptive'))
