# Depth up to 10 m by mmseg's VPDDepthHead on a pyramid of strides 4 to 32. A config sets
# backbone.arch, its pretrained weights (backbone.init_cfg.checkpoint) and the widths:
# neck.embed_dim, decode_head.in_channels, decode_head.feature_dim, and decode_head.embed_dim, an
# eighth of feature_dim. The head joins the levels at stride 16 and upsamples by 2 * 2 * 4.
_base_ = 'weightformer_segmentor.py'

crop_size = (480, 480)

model = dict(
    type='DepthEstimator',
    # A depth of 0 is ignored by the loss.
    data_preprocessor=dict(size=crop_size, seg_pad_val=0, test_cfg=dict(size=crop_size)),
    neck=dict(
        type='Feature2Pyramid',
        rescales=[4, 2, 1, 0.5],
        norm_cfg=dict(type='SyncBN', requires_grad=True),  # replaced by BN without a GPU
    ),
    decode_head=dict(
        type='VPDDepthHead',
        max_depth=10.0,
        num_deconv_layers=2,
        num_deconv_filters=(32, 32),
        loss_decode=dict(type='SiLogLoss'),
    ),
    # As mmseg tests VPD: the mean over windows and their mirror images.
    test_cfg=dict(mode='slide_flip', crop_size=crop_size, stride=(160, 160)),
)
