# Digits on photographs in ADE20K's folders, written by tools/dataset_converters/digit_scenes.py.
# Label 0 is the background, a class like the ten digits; crowds and soft edges are 255 (ignored).
_base_ = 'ade20k_format_512.py'

data_help = {
    'data/scenes': """The scenes come with the project:
python tools/dataset_converters/digit_scenes.py (bash tools/quickstart.sh does it by itself)."""
}

# No flips: a mirrored digit is another digit or not a digit at all.
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=(68, 68), ratio_range=(0.8, 1.25), keep_ratio=True),
    dict(type='RandomCrop', crop_size=(64, 64), cat_max_ratio=0.95),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(68, 68), keep_ratio=True),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='Resize', scale=(size, size), keep_ratio=True) for size in (60, 68, 76)],
            [dict(type='RandomFlip', prob=0.0)],
            [dict(type='LoadAnnotations')],
            [dict(type='PackSegInputs')],
        ],
    ),
]

scenes = dict(
    data_root='data/scenes/ade20k',
    metainfo=dict(
        classes=('background', *'0123456789'),
        palette=[
            [0, 0, 0],
            [31, 119, 180],
            [255, 127, 14],
            [44, 160, 44],
            [214, 39, 40],
            [148, 103, 189],
            [140, 86, 75],
            [227, 119, 194],
            [127, 127, 127],
            [188, 189, 34],
            [23, 190, 207],
        ],
    ),
)
train_dataloader = dict(
    batch_size=16,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(**scenes, pipeline=train_pipeline),
)
val_dataloader = dict(
    num_workers=0, persistent_workers=False, dataset=dict(**scenes, pipeline=test_pipeline)
)
test_dataloader = val_dataloader
