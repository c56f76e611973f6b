r"""WeightFormer-B, which is WeightFormer-S trained and tested at 448 x 448 (paper figure 1).

    bash tools/dist_train.sh \
        configs/classification/weightformer-base-p16_8xb256_in1k-448px.py 8 --amp

Hardware: 8 GPUs (memory not measured); with too little memory, lower train_dataloader.batch_size
and raise optim_wrapper.accumulative_counts. Top-1, paper: 83.4 (figure 1). Ours: not run.
"""

_base_ = [
    '../_base_/models/weightformer_classifier.py',
    '../_base_/datasets/imagenet_448.py',
    '../_base_/schedules/adamw_300e_bs2048.py',
    '../_base_/runtime/classification.py',
]

model = dict(backbone=dict(arch='base'), head=dict(in_channels=384))
