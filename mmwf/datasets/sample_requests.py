"""The samples to generate when a diffusion model is tested."""

import random

from mmengine.structures import BaseDataElement
from torch.utils.data import Dataset

from mmwf.registry import DATASETS


@DATASETS.register_module()
class SampleRequests(Dataset):
    """Class and index of each sample to generate in a test.

    Args:
        num_samples: Number of samples.
        num_classes: Number of classes.
        seed: Seed to draw the classes at random, as in DiT. By default sample ``i`` has the class
            ``i % num_classes``, so that the classes are balanced.
    """

    #: Required by MMEngine.
    metainfo: dict = {}

    def __init__(self, num_samples: int, num_classes: int, seed: int | None = None):
        if seed is None:
            self.labels = [index % num_classes for index in range(num_samples)]
        else:
            self.labels = random.Random(seed).choices(range(num_classes), k=num_samples)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict:
        """Returns ``data_samples`` with ``label`` and ``index``; there are no ``inputs``."""
        sample = BaseDataElement(metainfo=dict(index=index), label=self.labels[index])
        return dict(data_samples=sample)
