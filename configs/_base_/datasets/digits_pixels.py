# Handwritten digits for generation: the scans of digits.py at their own 8 x 8 pixels, in grey.
data_help = {
    'data/digits': """The digits come with the project: python tools/dataset_converters/digits.py
(bash tools/quickstart.sh does it by itself)."""
}

train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(type='mmwf.ImageFolder', data_root='data/digits/train', image_size=8, channels=1),
)
test_dataloader = dict(
    batch_size=100,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='mmwf.SampleRequests', num_samples=500, num_classes=10),
)
# Samples are classified by the quick start's classifier.
test_evaluator = dict(
    type='mmwf.GenerationMetric',
    extractor=dict(
        type='classifier',
        config='configs/quickstart/weightformer-w64d8-p4_1xb64-20e_digits-32px.py',
        checkpoint='work_dirs/quickstart/classification/epoch_20.pth',
        image_size=32,
    ),
    real='data/digits/val',
    metric=['fid', 'class_accuracy'],
)
