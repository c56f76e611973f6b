"""Storing the features of a dataset before testing."""

import torch
from mmengine.dist import all_gather
from mmengine.hooks import Hook
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mmwf.registry import HOOKS

from .hooks import unwrap_model


@torch.no_grad()
def extract_features(model: nn.Module, loader: DataLoader) -> tuple[Tensor, Tensor]:
    """Computes the features of a dataset, in all processes together.

    Args:
        model: mmpretrain's ImageClassifier, whose neck or backbone returns (B, C).
        loader: Its sampler must be MMEngine's ``DefaultSampler`` without shuffling, which gives
            process r of p the images r, r + p, r + 2p, ...

    Returns:
        Features (M, C) and labels (M,) of the M images, in order, in every process.
    """
    features, labels = [], []
    for batch in loader:
        batch = model.data_preprocessor(batch, training=False)
        features.append(model.extract_feat(batch['inputs'])[-1])
        labels.append(torch.cat([sample.gt_label for sample in batch['data_samples']]))
    parts = [all_gather(torch.cat(part)) for part in (features, labels)]
    # The sampler repeats the first images if their number is not a multiple of p.
    features, labels = (
        torch.stack(part, dim=1).flatten(0, 1)[: len(loader.dataset)] for part in parts
    )
    return features, labels


@HOOKS.register_module()
class FeatureBankHook(Hook):
    """Stores the features of ``bank_dataloader`` in a :class:`.KNNHead` before testing.

    ``bank_dataloader`` is a key of the config, like ``test_dataloader``. Its images are read in
    order, whatever its sampler is. Every process keeps all features: 0.9 GiB for ImageNet and 192
    channels.
    """

    def before_test(self, runner) -> None:
        """Computes and stores the features."""
        sampler = dict(type='DefaultSampler', shuffle=False)
        settings = dict(runner.cfg.bank_dataloader, sampler=sampler, drop_last=False)
        loader = runner.build_dataloader(settings)
        runner.logger.info(f'Computing the features of {len(loader.dataset)} images.')
        model = unwrap_model(runner.model).eval()
        model.head.store(*extract_features(model, loader))
