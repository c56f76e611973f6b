r"""WeightFormer-T on ImageNet-1K from WebDataset shards, which are not unpacked.

    bash tools/dist_train.sh \
        configs/classification/weightformer-tiny-p16_8xb256_in1k-shards.py 8 --amp

Hardware: 8 GPUs. Top-1, paper: as in weightformer-tiny-p16_8xb256_in1k.py, from which only the
form of the data differs. Ours: not run.
"""

_base_ = [
    '../_base_/models/weightformer_classifier.py',
    '../_base_/datasets/imagenet_shards_224.py',
    '../_base_/schedules/adamw_300e_bs2048.py',
    '../_base_/runtime/classification.py',
]

model = dict(backbone=dict(arch='tiny'), head=dict(in_channels=192))
