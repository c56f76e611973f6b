"""WeightFormer-T on ImageNet-1K at 224 x 224 (paper section 5.1, figure 1).

    bash tools/dist_train.sh configs/classification/weightformer-tiny-p16_8xb256_in1k.py 8 --amp

Hardware: 8 GPUs (the paper: 8 RTX 3090, 24 GB). Top-1, paper: 76.3 (read off figure 1; 76.8 in
the text of section 4.2). Ours: not run.
"""

_base_ = [
    '../_base_/models/weightformer_classifier.py',
    '../_base_/datasets/imagenet_224.py',
    '../_base_/schedules/adamw_300e_bs2048.py',
    '../_base_/runtime/classification.py',
]

model = dict(backbone=dict(arch='tiny'), head=dict(in_channels=192))
