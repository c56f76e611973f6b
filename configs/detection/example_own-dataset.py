"""Mask R-CNN with WeightFormer-T on your own dataset in COCO's format; see this folder's README.md.

    bash tools/dist_train.sh configs/detection/example_own-dataset.py 1

Hardware: one GPU (memory not measured). Box and mask AP: depends on your data. Ours: not run.
"""

_base_ = [
    '../_base_/models/mask_rcnn_simple_fpn.py',
    '../_base_/datasets/coco_format_lsj_1024.py',
    '../_base_/schedules/adamw_lsj_100e_bs64_weightformer.py',
    '../_base_/runtime/detection.py',
]

data_root = 'data/own'
data_help = f'Put images and annotations at {data_root}; see configs/detection/README.md.'
classes = ('cat', 'dog')  # the names in the annotation file, in its order

heads = dict(num_classes=len(classes))
backbone = dict(type='mmwf.WeightFormer', arch='tiny', drop_path_rate=0.1, final_norm=False)
pretrained = dict(type='Pretrained', checkpoint='checkpoints/weightformer-tiny_in1k.pth')
model = dict(
    backbone=dict(backbone, init_cfg=pretrained),
    neck=dict(in_channels=192),
    roi_head=dict(bbox_head=heads, mask_head=heads),
)

dataset = dict(data_root=data_root, metainfo=dict(classes=classes))
train_dataloader = val_dataloader = test_dataloader = dict(dataset=dataset)
val_evaluator = test_evaluator = dict(ann_file=f'{data_root}/annotations/instances_val.json')

optim_wrapper = dict(optimizer=dict(lr=2.5e-5))  # for a batch size of 4: 1e-4 * sqrt(4 / 64)
auto_scale_lr = dict(base_batch_size=4)
train_cfg = dict(max_iters=10000, val_interval=1000)
param_scheduler = [_base_.warmup, dict(_base_.decay, milestones=[8890, 9630])]
default_hooks = dict(checkpoint=dict(interval=1000))
