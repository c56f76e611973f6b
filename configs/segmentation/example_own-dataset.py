"""UperNet with WeightFormer-T on a data set of your own; see README.md here.

    bash tools/dist_train.sh configs/segmentation/example_own-dataset.py 1

Hardware: one GPU (memory not measured). mIoU: depends on your data. Ours: not run.
"""

_base_ = 'upernet_weightformer-tiny-p16_8xb2-160k_ade20k-512x512.py'

# Annotations are grey or palette PNGs: 0 is the first class, 1 the second, 255 does not count.
classes = ('road', 'grass', 'sky')
data_help = 'Put your images and annotations there; see README.md here.'
model = dict(
    decode_head=dict(num_classes=len(classes)), auxiliary_head=dict(num_classes=len(classes))
)

common = dict(
    type='BaseSegDataset',
    data_root='data/own',
    metainfo=dict(classes=classes),
    img_suffix='.jpg',
    reduce_zero_label=False,  # True where 0 stands for no class, and the classes begin at 1
)
train_dataloader = dict(batch_size=8, dataset=common)
val_dataloader = dict(dataset=common)
test_dataloader = val_dataloader

train_cfg = dict(max_iters=10000, val_interval=1000)
param_scheduler = [_base_.param_scheduler[0], dict(_base_.param_scheduler[1], end=10000)]
default_hooks = dict(checkpoint=dict(interval=1000))
