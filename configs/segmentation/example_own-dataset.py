"""UperNet with WeightFormer-T on your own dataset; see this folder's README.md.

    bash tools/dist_train.sh configs/segmentation/example_own-dataset.py 1

Hardware: one GPU (memory not measured). mIoU: depends on your data. Ours: not run.
"""

_base_ = [
    '../_base_/models/upernet_weightformer.py',
    '../_base_/datasets/ade20k_format_512.py',
    '../_base_/schedules/adamw_160k_bs16.py',
    '../_base_/runtime/segmentation.py',
]

classes = ('road', 'grass', 'sky')  # annotation values 0, 1, 2; 255 is ignored
data_help = 'Put your images and annotations there; see configs/segmentation/README.md.'

width = 192
model = dict(
    backbone=dict(arch='tiny', init_cfg=dict(checkpoint='checkpoints/weightformer-tiny_in1k.pth')),
    neck=dict(embed_dim=width),
    decode_head=dict(in_channels=[width] * 4, channels=width, num_classes=len(classes)),
    auxiliary_head=dict(in_channels=width, num_classes=len(classes)),
)

# reduce_zero_label=True where 0 is not a class and the classes begin at 1.
dataset = dict(
    data_root='data/own', metainfo=dict(classes=classes), img_suffix='.jpg', reduce_zero_label=False
)
train_dataloader = dict(batch_size=8, dataset=dataset)
val_dataloader = test_dataloader = dict(dataset=dataset)

train_cfg = dict(max_iters=10000, val_interval=1000)
param_scheduler = [_base_.warmup, dict(_base_.decay, end=10000)]
default_hooks = dict(checkpoint=dict(interval=1000))
