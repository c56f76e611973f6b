r"""DeiT-T with UperNet on ADE20K under the recipe of WeightFormer-T, for comparison.

    bash tools/dist_train.sh \
        configs/segmentation/upernet_deit-tiny-p16_8xb2-160k_ade20k-512x512.py 8 \
        --cfg-options model.backbone.init_cfg.type=Pretrained \
        model.backbone.init_cfg.prefix=backbone. model.backbone.init_cfg.checkpoint=WEIGHTS

WEIGHTS: what ImageNet training of configs/classification/deit-tiny-p16_8xb256_in1k.py wrote, or
mmpretrain's file. The position embedding is interpolated.

Hardware: 8 GPUs (memory not measured). mIoU, one scale, Vim's (as the paper quotes it): 39.2.
Ours: not run.
"""

_base_ = 'upernet_weightformer-tiny-p16_8xb2-160k_ade20k-512x512.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmpretrain.VisionTransformer',
        arch='deit-tiny',
        img_size=512,
        out_indices=(2, 5, 8, 11),
        out_type='featmap',
        final_norm=False,
        drop_path_rate=0.1,
    )
)
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys={'.cls_token': dict(decay_mult=0.0), '.pos_embed': dict(decay_mult=0.0)}
    )
)
