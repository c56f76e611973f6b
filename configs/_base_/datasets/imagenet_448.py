# ImageNet-1K at 448 x 448, with the augmentation of imagenet_224.py.
_base_ = 'imagenet_224.py'

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='mmwf.RandomResizedCrop', scale=448, backend='pillow', interpolation='bicubic'),
    *_base_.augmentation,
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(512, 512), backend='pillow', interpolation='bicubic'),
    dict(type='CenterCrop', crop_size=448),
    dict(type='PackInputs'),
]

train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
