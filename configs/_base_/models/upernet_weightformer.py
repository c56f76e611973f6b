# UperNet on WeightFormer's blocks 4, 8, 12 and 16. A config sets backbone.arch, its pretrained
# weights (backbone.init_cfg.checkpoint) and the widths.
_base_ = 'upernet_feature2pyramid.py'

model = dict(
    backbone=dict(
        type='mmwf.WeightFormer',
        out_indices=(4, 8, 12, 16),
        final_norm=False,
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained'),
    )
)

weights_help = """Get the released weights, for WeightFormer-T by
    mmwf official-to-mmwf hf://RuizeHe/weightformer-t checkpoints/weightformer-tiny_in1k.pth
or copy the last checkpoint of your own ImageNet training there.
"""
