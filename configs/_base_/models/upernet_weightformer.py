# UperNet on WeightFormer's blocks 4, 8, 12 and 16. A config sets backbone.arch and the widths.
_base_ = 'upernet_feature2pyramid.py'

model = dict(
    backbone=dict(
        type='mmwf.WeightFormer',
        out_indices=(4, 8, 12, 16),
        final_norm=False,
        drop_path_rate=0.1,
    )
)
