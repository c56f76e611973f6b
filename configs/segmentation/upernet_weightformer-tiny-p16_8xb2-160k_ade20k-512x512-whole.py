r"""WeightFormer-T with UperNet on ADE20K, tested on whole images instead of by sliding a window.

    bash tools/dist_test.sh \
        configs/segmentation/upernet_weightformer-tiny-p16_8xb2-160k_ade20k-512x512-whole.py \
        CHECKPOINT 8

Hardware: 8 GPUs (memory not measured). mIoU, one scale, paper: 40.7 (how it tested is not said).
Ours: not run.
"""

_base_ = 'upernet_weightformer-tiny-p16_8xb2-160k_ade20k-512x512.py'

model = dict(
    # To multiples of the coarsest stride, so that all feature maps lie on one grid.
    data_preprocessor=dict(test_cfg=dict(_delete_=True, size_divisor=32)),
    test_cfg=dict(_delete_=True, mode='whole'),
)
