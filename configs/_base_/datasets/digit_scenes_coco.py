# Digits on photographs in COCO's format, written by tools/dataset_converters/digit_scenes.py, at
# about half their size: at most 64 x 64.
_base_ = 'coco_format_lsj_1024.py'

data_help = {
    'data/scenes': """The scenes come with the project:
python tools/dataset_converters/digit_scenes.py (bash tools/quickstart.sh does it by itself)."""
}

# No flips: a mirrored digit is another digit or not a digit at all.
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='RandomResize', scale=(64, 64), ratio_range=(0.8, 1.0), keep_ratio=True),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(64, 64), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='PackDetInputs', meta_keys=_base_.meta_keys),
]
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='Resize', scale=(size, size), keep_ratio=True) for size in (56, 64)],
            [dict(type='RandomFlip', prob=0.0)],
            [dict(type='LoadAnnotations', with_bbox=True, with_mask=True)],
            [dict(type='PackDetInputs', meta_keys=_base_.tta_meta_keys)],
        ],
    ),
]

scenes = dict(data_root='data/scenes/coco', metainfo=dict(classes=tuple('0123456789')))
train_dataloader = dict(
    batch_size=16,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(**scenes, pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=10,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(**scenes, pipeline=test_pipeline),
)
test_dataloader = val_dataloader

val_evaluator = dict(ann_file='data/scenes/coco/annotations/instances_val.json')
test_evaluator = val_evaluator
