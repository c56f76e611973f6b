r"""WeightFormer-T with one 1 x 1 convolution on its last map (stride 16) on ADE20K: the simplest
segmentor.

    bash tools/dist_train.sh \
        configs/segmentation/fcn_weightformer-tiny-p16_8xb2-160k_ade20k-512x512.py 8

The head is that of mmseg's configs/segmenter/segmenter_vit-s_fcn_8xb1-160k_ade20k-512x512.py; the
schedule is that of our UperNet (our recipe).

Hardware: 8 GPUs (memory not measured). mIoU, paper: not given. Ours: not run.
"""

_base_ = [
    '../_base_/models/fcn_weightformer.py',
    '../_base_/datasets/ade20k_512.py',
    '../_base_/schedules/adamw_160k_bs16.py',
    '../_base_/runtime/segmentation.py',
]

width = 192
model = dict(
    backbone=dict(arch='tiny', init_cfg=dict(checkpoint='checkpoints/weightformer-tiny_in1k.pth')),
    decode_head=dict(in_channels=width, channels=width),
)
