# WeightFormer with a simple feature pyramid, as in ViTDet, for the heads of any detector. A config
# sets backbone.arch, its pretrained weights (backbone.init_cfg.checkpoint) and its width
# (neck.in_channels).
model = dict(
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        # Pads to 1024 x 1024 in training and in testing, so that the input of an image does not
        # depend on the other images of the batch.
        pad_size_divisor=1024,
    ),
    backbone=dict(
        type='mmwf.WeightFormer',
        drop_path_rate=0.1,
        final_norm=False,
        init_cfg=dict(type='Pretrained'),
    ),
    neck=dict(type='mmwf.SimpleFPN', out_channels=256),
)

weights_help = """Get the released weights, for WeightFormer-T by
    mmwf official-to-mmwf hf://RuizeHe/weightformer-t checkpoints/weightformer-tiny_in1k.pth
or copy the last checkpoint of your own ImageNet training there.
"""
