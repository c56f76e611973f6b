# One 1 x 1 convolution on the normalised last map of stride 16, as in the linear baseline of
# Segmenter (mmseg: configs/segmenter/segmenter_vit-s_fcn_8xb1-160k_ade20k-512x512.py). A leaf sets
# decode_head.in_channels and decode_head.channels, the backbone's width.
_base_ = 'weightformer_segmentor.py'

model = dict(
    backbone=dict(out_indices=(16,), final_norm=True),
    decode_head=dict(
        type='FCNHead',
        num_convs=0,
        concat_input=False,
        dropout_ratio=0.0,
        num_classes=150,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
    ),
)
