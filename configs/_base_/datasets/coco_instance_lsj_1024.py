# COCO 2017, with large-scale jitter.
_base_ = 'coco_format_lsj_1024.py'

data_help = {
    'data/coco': """COCO 2017: get train2017.zip, val2017.zip and annotations_trainval2017.zip from
cocodataset.org and unpack them to data/coco/train2017/*.jpg, data/coco/val2017/*.jpg and
data/coco/annotations/instances_{train,val}2017.json (a symbolic link data/coco will do)."""
}

train_dataloader = dict(
    dataset=dict(
        data_root='data/coco',
        ann_file='annotations/instances_train2017.json',
        data_prefix=dict(img='train2017'),
    )
)
val_dataloader = dict(
    dataset=dict(
        data_root='data/coco',
        ann_file='annotations/instances_val2017.json',
        data_prefix=dict(img='val2017'),
    )
)
test_dataloader = val_dataloader

val_evaluator = dict(ann_file='data/coco/annotations/instances_val2017.json')
test_evaluator = val_evaluator
