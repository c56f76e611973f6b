r"""The depthwise convolution, norm apart from direction (paper table 2, eq. 12).

    bash tools/dist_train.sh \
        configs/predictors/weightformer-tiny-p16_dwconv-amp-dir_8xb256_in1k.py 8 --amp

Hardware: 8 GPUs of 24 GB (the paper: 8 RTX 3090). Top-1, paper: 0.2 above dwconv-adaptive. Ours:
not run.
"""

_base_ = '../classification/weightformer-tiny-p16_8xb256_in1k.py'

model = dict(backbone=dict(dynamic_layers=['dwconv'], dwconv_predictor='amp-dir'))
