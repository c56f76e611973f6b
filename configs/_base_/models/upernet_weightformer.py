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

weights_help = r"""Convert the released weights, for WeightFormer-T by
    python tools/model_converters/official_to_mmwf.py \
        weightformer_t.pth checkpoints/weightformer-tiny_in1k.pth
or copy the last checkpoint of your own ImageNet training there.
"""
