"""What to sample in a test of a diffusion model."""

import random

from mmengine.structures import BaseDataElement
from torch.utils.data import Dataset

from mmwf.registry import DATASETS


@DATASETS.register_module()
class SampleRequests(Dataset):
    """Which samples to make in a test: a class and an index each.

    Args:
        num_samples: How many.
        num_classes: Number of classes.
        seed: Draws the classes at random, as DiT does. By default they take turns, so that each
            comes equally often.
    """

    #: MMEngine asks for it.
    metainfo: dict = {}

    def __init__(self, num_samples: int, num_classes: int, seed: int | None = None):
        if seed is None:
            self.labels = [index % num_classes for index in range(num_samples)]
        else:
            self.labels = random.Random(seed).choices(range(num_classes), k=num_samples)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict:
        """Returns data samples with ``label`` and ``index``; there are no inputs."""
        sample = BaseDataElement(metainfo=dict(index=index), label=self.labels[index])
        return dict(data_samples=sample)
