# UperNet on DeiT's blocks 2, 5, 8 and 11. A config sets backbone.arch, its pretrained weights
# (backbone.init_cfg.checkpoint, of mmpretrain's ImageClassifier) and the widths.
_base_ = 'upernet_feature2pyramid.py'

model = dict(
    backbone=dict(
        type='mmpretrain.VisionTransformer',
        img_size=512,
        out_indices=(2, 5, 8, 11),
        out_type='featmap',
        final_norm=False,
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained', prefix='backbone.'),
    )
)

weights_help = """Copy a checkpoint of mmpretrain's DeiT classifier there: the last one of your own
ImageNet training (configs/classification/deit-*.py), or the released one.
"""
