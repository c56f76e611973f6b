# Handwritten digits as 32 x 32 images, written by tools/dataset_converters/digits.py.
data_help = {
    'data/digits': """The digits come with the project: python tools/dataset_converters/digits.py
(bash tools/quickstart.sh does it by itself)."""
}

data_preprocessor = dict(num_classes=10, mean=[127.5] * 3, std=[127.5] * 3, to_rgb=False)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    # Handwriting varies in position and slant, and there are few scans.
    dict(type='RandomCrop', crop_size=32, padding=3),
    dict(type='Rotate', angle=10.0, prob=0.5, random_negative_prob=0.5, pad_val=0),
    dict(type='PackInputs'),
]
test_pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]

train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    drop_last=True,
    dataset=dict(
        type='CustomDataset',
        data_root='data/digits',
        data_prefix='train',
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=64,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='CustomDataset', data_root='data/digits', data_prefix='val', pipeline=test_pipeline
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type='Accuracy', topk=(1,))
test_evaluator = val_evaluator
