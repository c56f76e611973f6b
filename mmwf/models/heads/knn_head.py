"""Classification by the nearest neighbours among stored features."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor

from mmwf.errors import UserError
from mmwf.registry import MODELS

CHUNK_SIZE = 65536  # stored images that are compared at a time, to bound memory


@MODELS.register_module()
class KNNHead(BaseModule):
    """Weighted k-nearest-neighbour classifier, a head without parameters.

    The k stored images with the largest cosine similarity s vote for their class with the weight
    exp(s / temperature), as in DINO (arXiv 2104.14294, section 3.2). A score is a class's share of
    the weights. ``mmwf.FeatureBankHook`` stores the features of the training images before testing.

    Args:
        num_classes: Number of classes.
        k: Number of neighbours.
        temperature: Temperature of the weights.

    Raises:
        ValueError: If an argument is not positive.
    """

    def __init__(self, num_classes: int, k: int = 20, temperature: float = 0.07):
        super().__init__()
        if min(num_classes, k, temperature) <= 0:
            raise ValueError(
                'Expected num_classes, k and temperature to be positive, got '
                f'{num_classes}, {k} and {temperature}.'
            )
        self.num_classes, self.k, self.temperature = num_classes, k, temperature
        # Not part of checkpoints: they depend on the data.
        self.register_buffer('features', torch.empty(0), persistent=False)
        self.register_buffer('labels', torch.empty(0, dtype=torch.long), persistent=False)

    def store(self, features: Tensor, labels: Tensor) -> None:
        """Replaces the stored images.

        Args:
            features: (M, C), M at least k. They are normalised in place.
            labels: (M,), int64, in [0, num_classes).

        Raises:
            UserError: If there are fewer than k images, or a label is out of range.
        """
        if len(features) < self.k:
            raise UserError(
                f'Expected at least k={self.k} images to compare with, got {len(features)}. Use '
                'more of bank_dataloader, or a smaller model.head.k.'
            )
        if labels.min() < 0 or labels.max() >= self.num_classes:
            raise UserError(
                f'Expected labels from 0 to {self.num_classes - 1} (model.head.num_classes), got '
                f'{labels.min().item()} to {labels.max().item()}.'
            )
        self.features = F.normalize(features, dim=1, out=features)
        self.labels = labels

    def forward(self, feats: Sequence[Tensor]) -> Tensor:
        """Computes the scores of the classes.

        Args:
            feats: Outputs of the backbone. The last one, (B, C), is used.

        Returns:
            (B, num_classes); each row sums to 1.

        Raises:
            UserError: If no images are stored.
        """
        if not len(self.labels):
            raise UserError(
                'No images to compare with are stored. mmwf test stores them if the config has a '
                "bank_dataloader and custom_hooks=[dict(type='mmwf.FeatureBankHook')]."
            )
        queries = F.normalize(feats[-1], dim=1)
        best = queries.new_empty(len(queries), 0)  # similarities of the nearest ones so far
        voters = self.labels.new_empty(len(queries), 0)  # their labels
        chunks = zip(self.features.split(CHUNK_SIZE), self.labels.split(CHUNK_SIZE), strict=True)
        for features, labels in chunks:
            candidates = torch.cat([best, queries @ features.T], dim=1)
            best, index = candidates.topk(min(self.k, candidates.shape[1]), dim=1)
            voters = torch.cat([voters, labels.expand(len(queries), -1)], dim=1).gather(1, index)
        weights = (best / self.temperature).softmax(dim=1)  # exp(s / temperature), normalised
        return weights.new_zeros(len(queries), self.num_classes).scatter_add(1, voters, weights)

    def predict(self, feats: Sequence[Tensor], data_samples: Sequence) -> Sequence:
        """Sets ``pred_score`` and ``pred_label`` of mmpretrain's data samples and returns them.

        Args:
            feats: As for :meth:`forward`.
            data_samples: One for each image.
        """
        scores = self(feats)
        for sample, score in zip(data_samples, scores, strict=True):
            sample.set_pred_score(score).set_pred_label(score.argmax(keepdim=True))
        return data_samples
