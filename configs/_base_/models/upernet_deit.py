# UperNet on DeiT's blocks 2, 5, 8 and 11. A config sets backbone.arch and the widths.
_base_ = 'upernet_feature2pyramid.py'

model = dict(
    backbone=dict(
        type='mmpretrain.VisionTransformer',
        img_size=512,
        out_indices=(2, 5, 8, 11),
        out_type='featmap',
        final_norm=False,
        drop_path_rate=0.1,
    )
)
