# Latents of ImageNet-1K at 256 x 256 for training, and 50,000 samples for testing, as in DiT.
data_help = {
    'data/imagenet-latents-256': """Latents of ImageNet-1K: get the images (see
configs/classification) and the VAE data/sd-vae-ft-ema (see configs/generation/README.md), then
run python tools/dataset_converters/imagenet_to_latents.py data/imagenet/train \\
    data/imagenet-latents-256 --vae data/sd-vae-ft-ema"""
}

train_dataloader = dict(
    batch_size=32,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    pin_memory=True,
    dataset=dict(
        type='mmwf.LatentDataset', data_root='data/imagenet-latents-256', shape=(4, 32, 32)
    ),
)
test_dataloader = dict(
    batch_size=32,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='mmwf.SampleRequests', num_samples=50000, num_classes=1000, seed=0),
)
# ADM's reference statistics, which DiT uses too.
test_evaluator = dict(
    type='mmwf.GenerationMetric',
    extractor=dict(type='inception'),
    real='data/VIRTUAL_imagenet256_labeled.npz',
    metric=['fid', 'inception_score'],
)
