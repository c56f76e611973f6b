r"""WeightFormer-T with UperNet on ADE20K, with the recipe that Vim's released code has for its tiny
model: 60 K iterations at a total batch size of 32. The 160 K config says how to make the
pretrained weights.

    bash tools/dist_train.sh \
        configs/segmentation/upernet_weightformer-tiny-p16_4xb8-60k_ade20k-512x512.py 4

Hardware: 4 GPUs (memory not measured). mIoU, paper: not given for this recipe. Ours: not run.
"""

_base_ = [
    '../_base_/models/upernet_weightformer.py',
    '../_base_/datasets/ade20k_512.py',
    '../_base_/schedules/adamw_160k_bs16.py',
    '../_base_/runtime/segmentation.py',
]

width = 192
model = dict(
    backbone=dict(arch='tiny', init_cfg=dict(checkpoint='checkpoints/weightformer-tiny_in1k.pth')),
    neck=dict(embed_dim=width),
    decode_head=dict(in_channels=[width] * 4, channels=width),
    auxiliary_head=dict(in_channels=width),
)

train_dataloader = dict(batch_size=8)
# Without Vim's nominal layer decay, which does not reach the blocks.
optim_wrapper = dict(optimizer=dict(lr=2e-4, weight_decay=0.1))
param_scheduler = [_base_.warmup, dict(_base_.decay, end=60000)]
train_cfg = dict(max_iters=60000, val_interval=6000)
auto_scale_lr = dict(base_batch_size=32)
default_hooks = dict(checkpoint=dict(interval=6000))
