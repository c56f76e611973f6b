# ImageNet-1K at 224 x 224 from WebDataset shards, with the augmentation of imagenet_224.py.
_base_ = 'imagenet_224.py'

data_help = {
    'data/imagenet-shards': """ImageNet-1K as WebDataset shards (KEY.jpg and KEY.cls):
accept the conditions of timm/imagenet-1k-wds on the Hugging Face hub, and put its archives in
data/imagenet-shards (imagenet1k-train-0000.tar ..., imagenet1k-validation-00.tar ...; a symbolic
link will do)."""
}

train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='mmwf.TarImages',
        data_root='data/imagenet-shards',
        shards='imagenet1k-train-*.tar',
        pipeline=_base_.train_pipeline,
    )
)
val_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='mmwf.TarImages',
        data_root='data/imagenet-shards',
        shards='imagenet1k-validation-*.tar',
        pipeline=_base_.test_pipeline,
    )
)
test_dataloader = val_dataloader
