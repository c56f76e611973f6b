# Depth in metres on NYU Depth V2 at 480 x 480 (mmseg: configs/_base_/datasets/nyu.py), with two
# differences in training: PhotoMetricDistortion replaces albumentations, which is not a dependency,
# and RandomDepthMix is omitted, since it writes millimetres into 8-bit images.
data_help = {
    'data/nyu': """NYU Depth V2, as prepared for VPD: get nyu.zip as described in mmseg's
docs/en/user_guides/2_dataset_prepare.md (NYU) and unpack it with mmseg's
tools/dataset_converters/nyu.py to data/nyu/{images,annotations}/{train,test}/ (a symbolic link
data/nyu will do). Annotations are 16-bit PNGs in millimetres."""
}

meta_keys = (
    'img_path',
    'depth_map_path',
    'ori_shape',
    'img_shape',
    'pad_shape',
    'scale_factor',
    'flip',
    'flip_direction',
    'category_id',
)
load_depth = dict(type='LoadDepthAnnotation', depth_rescale_factor=1e-3)  # to metres
train_pipeline = [
    dict(type='LoadImageFromFile'),
    load_depth,
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomCrop', crop_size=(480, 480)),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs', meta_keys=meta_keys),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(2000, 480), keep_ratio=True),
    load_depth,  # after Resize: the ground truth keeps its size
    dict(type='PackSegInputs', meta_keys=meta_keys),
]

train_dataloader = dict(
    batch_size=8,
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='NYUDataset',
        data_root='data/nyu',
        data_prefix=dict(img_path='images/train', depth_map_path='annotations/train'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='NYUDataset',
        data_root='data/nyu',
        data_prefix=dict(img_path='images/test', depth_map_path='annotations/test'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

# Pixels between 1 mm and 10 m inside Eigen's crop of images of 480 x 640.
val_evaluator = dict(
    type='DepthMetric', min_depth_eval=0.001, max_depth_eval=10.0, crop_type='nyu_crop'
)
test_evaluator = val_evaluator
