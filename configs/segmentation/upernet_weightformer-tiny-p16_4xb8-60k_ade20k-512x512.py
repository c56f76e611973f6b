r"""WeightFormer-T with UperNet on ADE20K as Vim's released code trains its tiny model: 60 K
iterations at a total batch of 32. See the 160 K one for the weights.

    bash tools/dist_train.sh \
        configs/segmentation/upernet_weightformer-tiny-p16_4xb8-60k_ade20k-512x512.py 4

Hardware: 4 GPUs (memory not measured). mIoU, paper: not given for this recipe. Ours: not run.
"""

_base_ = 'upernet_weightformer-tiny-p16_8xb2-160k_ade20k-512x512.py'

train_dataloader = dict(batch_size=8)
# Vim's nominal layer decay is left out: it does not reach the blocks.
optim_wrapper = dict(optimizer=dict(lr=2e-4, weight_decay=0.1))
param_scheduler = [_base_.param_scheduler[0], dict(_base_.param_scheduler[1], end=60000)]
train_cfg = dict(max_iters=60000, val_interval=6000)
auto_scale_lr = dict(base_batch_size=32)
default_hooks = dict(checkpoint=dict(interval=6000))
