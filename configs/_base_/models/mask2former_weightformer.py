# Mask2Former's head (mmseg: configs/mask2former/mask2former_r50_8xb2-160k_ade20k-512x512.py) on a
# pyramid of strides 4 to 32. A leaf sets neck.embed_dim and decode_head.in_channels, the backbone's
# width. Whole images are tested: the head's masks have the size of the image, not of a window.
_base_ = 'weightformer_segmentor.py'

num_classes = 150
channels = 256
attention = dict(embed_dims=channels, num_heads=8, batch_first=True)
position = dict(num_feats=channels // 2, normalize=True)

model = dict(
    data_preprocessor=dict(test_cfg=dict(_delete_=True, size_divisor=32)),
    neck=dict(
        type='Feature2Pyramid',
        rescales=[4, 2, 1, 0.5],
        norm_cfg=dict(type='SyncBN', requires_grad=True),  # replaced by BN without a GPU
    ),
    decode_head=dict(
        type='Mask2FormerHead',
        strides=[4, 8, 16, 32],
        feat_channels=channels,
        out_channels=channels,
        num_classes=num_classes,
        num_queries=100,
        num_transformer_feat_level=3,
        align_corners=False,
        pixel_decoder=dict(
            type='mmdet.MSDeformAttnPixelDecoder',
            num_outs=3,
            norm_cfg=dict(type='GN', num_groups=32),
            act_cfg=dict(type='ReLU'),
            encoder=dict(
                num_layers=6,
                layer_cfg=dict(
                    self_attn_cfg=dict(attention, num_levels=3, num_points=4, dropout=0.0),
                    ffn_cfg=dict(embed_dims=channels, feedforward_channels=1024),
                ),
            ),
            positional_encoding=position,
        ),
        positional_encoding=position,
        transformer_decoder=dict(
            num_layers=9,
            layer_cfg=dict(
                self_attn_cfg=attention,
                cross_attn_cfg=attention,
                ffn_cfg=dict(embed_dims=channels, feedforward_channels=2048),
            ),
        ),
        loss_cls=dict(
            type='mmdet.CrossEntropyLoss',
            loss_weight=2.0,
            class_weight=[1.0] * num_classes + [0.1],  # the last one is "no object"
        ),
        loss_mask=dict(type='mmdet.CrossEntropyLoss', use_sigmoid=True, loss_weight=5.0),
        loss_dice=dict(type='mmdet.DiceLoss', naive_dice=True, eps=1.0, loss_weight=5.0),
        train_cfg=dict(
            num_points=12544,
            oversample_ratio=3.0,
            importance_sample_ratio=0.75,
            assigner=dict(
                type='mmdet.HungarianAssigner',
                match_costs=[
                    dict(type='mmdet.ClassificationCost', weight=2.0),
                    dict(type='mmdet.CrossEntropyLossCost', weight=5.0, use_sigmoid=True),
                    dict(type='mmdet.DiceCost', weight=5.0, pred_act=True, eps=1.0),
                ],
            ),
            sampler=dict(type='mmdet.MaskPseudoSampler'),
        ),
    ),
    test_cfg=dict(_delete_=True, mode='whole'),
)
