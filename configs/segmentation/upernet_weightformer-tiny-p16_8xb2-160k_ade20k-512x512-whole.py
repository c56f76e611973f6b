r"""WeightFormer-T with UperNet on ADE20K, tested on whole images instead of with a sliding window.

    bash tools/dist_test.sh \
        configs/segmentation/upernet_weightformer-tiny-p16_8xb2-160k_ade20k-512x512-whole.py \
        CHECKPOINT 8

Hardware: 8 GPUs (memory not measured). mIoU, single-scale, paper: 40.7 (it does not say how it
tested). Ours: not run.
"""

_base_ = [
    '../_base_/models/upernet_weightformer.py',
    '../_base_/datasets/ade20k_512.py',
    '../_base_/schedules/adamw_160k_bs16.py',
    '../_base_/runtime/segmentation.py',
]

width = 192
model = dict(
    # Pads to multiples of the coarsest stride, so that all feature maps lie on one grid.
    data_preprocessor=dict(test_cfg=dict(_delete_=True, size_divisor=32)),
    backbone=dict(arch='tiny', init_cfg=dict(checkpoint='checkpoints/weightformer-tiny_in1k.pth')),
    neck=dict(embed_dim=width),
    decode_head=dict(in_channels=[width] * 4, channels=width),
    auxiliary_head=dict(in_channels=width),
    test_cfg=dict(_delete_=True, mode='whole'),
)
# Test images have many sizes, and cuDNN would benchmark each of them.
env_cfg = dict(cudnn_benchmark=False)
