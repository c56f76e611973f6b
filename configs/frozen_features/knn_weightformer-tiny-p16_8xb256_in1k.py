r"""Classification of ImageNet-1K by the nearest neighbours among frozen features of WeightFormer-T.

Nothing is trained: the features of the training images are computed, then top-1 and top-5 of the
validation images. CHECKPOINT may have any head.

    bash tools/dist_test.sh \
        configs/frozen_features/knn_weightformer-tiny-p16_8xb256_in1k.py CHECKPOINT 8

The protocol is DINO's (arXiv 2104.14294, section 3.2): cosine similarity, 20 neighbours, votes with
the weight exp(similarity / 0.07). Images are resized to a square, as in our other configs.

Hardware: 8 GPUs (memory not measured). Top-1, paper: not given. Ours: not run.
"""

_base_ = [
    '../_base_/models/weightformer_classifier.py',
    '../_base_/datasets/imagenet_224.py',
    '../_base_/runtime/classification.py',
]

model = dict(
    backbone=dict(arch='tiny'),
    head=dict(_delete_=True, type='mmwf.KNNHead', num_classes=1000, k=20, temperature=0.07),
    train_cfg=None,
)

bank = dict(_base_.train_dataloader.dataset, pipeline=_base_.test_pipeline)
bank_dataloader = dict(_base_.test_dataloader, dataset=bank)
train_dataloader = val_dataloader = val_evaluator = None
test_cfg = dict()
custom_hooks = [dict(type='mmwf.FeatureBankHook')]
default_hooks = dict(checkpoint_match=dict(unused=['head.']))  # that of the checkpoint
