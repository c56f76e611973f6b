"""WeightFormer-T on your own images, from ImageNet weights; see this folder's README.md.

    bash tools/dist_train.sh configs/classification/example_own-dataset.py 1

Hardware: one GPU (memory not measured). Top-1: depends on your data. Ours: not run.
"""

_base_ = [
    '../_base_/models/weightformer_classifier.py',
    '../_base_/datasets/imagenet_224.py',
    '../_base_/schedules/adamw_300e_bs2048.py',
    '../_base_/runtime/classification.py',
]

data_root, num_classes = 'data/own', 2  # the number of folders data/own/train/CLASS
data_help = 'Put your images there; see configs/classification/README.md.'
weights_help = 'mmwf official-to-mmwf hf://RuizeHe/weightformer-t FILE makes this FILE. '
data_preprocessor = dict(num_classes=num_classes)
pretrained = dict(type='Pretrained', checkpoint='checkpoints/weightformer-tiny_in1k.pth')
model = dict(
    backbone=dict(arch='tiny', init_cfg=pretrained),
    head=dict(in_channels=192, num_classes=num_classes),
)

data = dict(_delete_=True, type='CustomDataset', data_root=data_root)
train_dataset = dict(data, data_prefix='train', pipeline=_base_.train_pipeline)
train_dataloader = dict(batch_size=64, dataset=train_dataset)
val_dataset = dict(data, data_prefix='val', pipeline=_base_.test_pipeline)
val_dataloader = test_dataloader = dict(batch_size=64, dataset=val_dataset)
val_evaluator = test_evaluator = dict(topk=(1,))

optim_wrapper = dict(optimizer=dict(lr=1e-4))  # for a batch size of 64
auto_scale_lr = dict(base_batch_size=64)
train_cfg = dict(max_epochs=30)
param_scheduler = [dict(_base_.param_scheduler[0], T_max=30, end=30)]
