"""Mask R-CNN with WeightFormer-T on a data set of your own in COCO's format; see README.md here.

    bash tools/dist_train.sh configs/detection/example_own-dataset.py 1

Hardware: one GPU of 24 GB. Box and mask AP: depends on your data. Ours: not run.
"""

_base_ = 'vitdet-mask-rcnn_weightformer-tiny-p16_16xb4-amp-lsj-100e_coco.py'

data_root = 'data/own'
data_help = f'Put images and annotations at {data_root}; see configs/detection/README.md.'
classes = ('cat', 'dog')  # the names in the annotation file, in its order

heads = dict(num_classes=len(classes))
model = dict(roi_head=dict(bbox_head=heads, mask_head=heads))

train_set = dict(ann_file='annotations/instances_train.json', data_prefix=dict(img='train'))
val_set = dict(ann_file='annotations/instances_val.json', data_prefix=dict(img='val'))
common = dict(data_root=data_root, metainfo=dict(classes=classes))
train_dataloader = dict(dataset=dict(train_set, **common))
val_dataloader = dict(dataset=dict(val_set, **common))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=f'{data_root}/{val_set["ann_file"]}')
test_evaluator = val_evaluator

# 1e-4 is for a batch of 64; this is its value for a batch of 4 by the square root.
optim_wrapper = dict(optimizer=dict(lr=2.5e-5))
auto_scale_lr = dict(base_batch_size=4)
train_cfg = dict(max_iters=10000, val_interval=1000)
param_scheduler = [
    _base_.param_scheduler[0],
    dict(_base_.param_scheduler[1], milestones=[8890, 9630]),
]
default_hooks = dict(checkpoint=dict(interval=1000))
