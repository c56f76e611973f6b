# A segmentor on WeightFormer without its head. A config of a head inherits it; a leaf sets
# backbone.arch, its pretrained weights (backbone.init_cfg.checkpoint) and the widths.
crop_size = (512, 512)

model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size=crop_size,
        test_cfg=dict(size=crop_size),  # pads images smaller than the sliding window
    ),
    backbone=dict(
        type='mmwf.WeightFormer',
        out_indices=(4, 8, 12, 16),
        final_norm=False,
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained'),
    ),
    test_cfg=dict(mode='slide', crop_size=crop_size, stride=(341, 341)),
)

weights_help = """Get the released weights, for WeightFormer-T by
    mmwf official-to-mmwf hf://RuizeHe/weightformer-t checkpoints/weightformer-tiny_in1k.pth
or copy the last checkpoint of your own ImageNet training there.
"""
