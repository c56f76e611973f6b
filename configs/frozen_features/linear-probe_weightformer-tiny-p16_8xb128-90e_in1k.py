r"""A linear classifier on frozen features of WeightFormer-T, trained on ImageNet-1K at 224 x 224.

    bash tools/dist_train.sh \
        configs/frozen_features/linear-probe_weightformer-tiny-p16_8xb128-90e_in1k.py 8

The recipe is MoCo v3's (mmpretrain:
configs/mocov3/benchmarks/vit-small-p16_8xb128-linear-coslr-90e_in1k.py); images are resized to a
square in testing, as in our other configs. It is meant for weights that were pretrained on other
data or without labels: --cfg-options model.backbone.init_cfg.checkpoint=FILE.

Hardware: 8 GPUs (memory not measured). Top-1, paper: not given. Ours: not run.
"""

_base_ = [
    '../_base_/models/weightformer_linear_probe.py',
    '../_base_/datasets/imagenet_224.py',
    '../_base_/schedules/sgd_90e_bs1024.py',
    '../_base_/runtime/classification.py',
]

model = dict(
    backbone=dict(arch='tiny', init_cfg=dict(checkpoint='checkpoints/weightformer-tiny_in1k.pth')),
    head=dict(in_channels=192),
)

# Load, crop and flip: without RandAugment and random erasing.
pipeline = [*_base_.train_pipeline[:2], _base_.augmentation[0], _base_.train_pipeline[-1]]
train_dataloader = dict(batch_size=128, dataset=dict(pipeline=pipeline))
