r"""WeightFormer-T with UperNet on ADE20K (paper section 5.3).

    bash tools/dist_train.sh \
        configs/segmentation/upernet_weightformer-tiny-p16_8xb2-160k_ade20k-512x512.py 8 \
        --cfg-options model.backbone.init_cfg.type=Pretrained \
        model.backbone.init_cfg.checkpoint=WEIGHTS

WEIGHTS: what ImageNet training of the same backbone wrote, or the released file. Without the two
options the backbone starts from nothing, which this schedule is not meant for.

Hardware: 8 GPUs (memory not measured). mIoU, one scale, paper: 40.7. Ours: not run.
"""

_base_ = [
    '../_base_/models/upernet_feature2pyramid.py',
    '../_base_/datasets/ade20k_512.py',
    '../_base_/schedules/adamw_160k_bs16.py',
    '../_base_/runtime/segmentation.py',
]
