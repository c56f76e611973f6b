"""Metrics of generated images."""

from collections.abc import Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from mmengine.dataset import DefaultSampler
from mmengine.device import get_device
from mmengine.dist import collect_results, is_main_process
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from torch import Tensor
from torch.utils.data import DataLoader

from mmwf.datasets.images import SquareImages, list_images
from mmwf.errors import UserError
from mmwf.registry import METRICS

from .extractors import build_extractor

NUM_NEIGHBORS = 3  # for precision and recall, as in their paper
NUM_SPLITS = 10  # for Inception Score, as in its paper
#: The metrics and the smallest number of images for which each is defined.
MIN_IMAGES = {
    'fid': 2,
    'inception_score': NUM_SPLITS,
    'precision': NUM_NEIGHBORS + 1,
    'recall': NUM_NEIGHBORS + 1,
    'class_accuracy': 1,
}
#: The metrics that need real images.
NEED_REAL = ('fid', 'precision', 'recall')


def frechet_distance(features: np.ndarray, mu: np.ndarray, sigma: np.ndarray) -> float:
    """Computes FID, the Fréchet distance between two sets of features (Heusel et al. 2017).

    Args:
        features: Features of the generated images, (N, D).
        mu: Mean of the real images' features, (D,).
        sigma: Covariance of the real images' features, (D, D).
    """
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    ours = fid_features_to_statistics(torch.from_numpy(features).double())
    real = dict(mu=mu.astype(np.float64), sigma=sigma.astype(np.float64))
    return fid_statistics_to_metric(ours, real, verbose=False)['frechet_inception_distance']


def inception_score(logits: np.ndarray, splits: int = NUM_SPLITS) -> float:
    """Computes Inception Score, averaged over random splits (Salimans et al. 2016).

    Args:
        logits: Logits of the generated images, (N, classes).
        splits: Number of splits.
    """
    from torch_fidelity.metric_isc import isc_features_to_metric

    return isc_features_to_metric(torch.from_numpy(logits), splits)['inception_score_mean']


def precision_recall(
    features: np.ndarray, real: np.ndarray, neighbors: int = NUM_NEIGHBORS
) -> tuple[float, float]:
    """Computes improved precision and recall (Kynkäänniemi et al. 2019).

    Args:
        features: Features of the generated images, (N, D).
        real: Features of the real images, (M, D).
        neighbors: The ball around an image reaches to its k-th nearest neighbour.

    Returns:
        The share of generated images in the ball of a real one, and vice versa.
    """
    from torch_fidelity.metric_prc import prc_features_to_metric

    device = get_device()
    result = prc_features_to_metric(
        torch.from_numpy(features).to(device),
        torch.from_numpy(real).to(device),
        prc_neighborhood=neighbors,
        prc_batch_size=1000,
        save_cpu_ram=True,
        verbose=False,
    )
    return result['precision'], result['recall']


@METRICS.register_module()
class GenerationMetric(BaseMetric):
    """FID, Inception Score, precision, recall and class accuracy of generated images.

    Only features and logits of the images are kept. The result has an entry ``protocol`` beside the
    metrics: how the images were sampled, how many, and what they were compared with.

    Args:
        extractor: Config of the feature extractor: ``dict(type='inception')``, optionally with
            ``weights``, or ``dict(type='classifier', config=..., checkpoint=...)``.
        real: The real images: a folder of images (subfolders included), or, for FID alone, an
            ``.npz`` with ``mu`` and ``sigma`` of their features, as published by ADM. Images are
            centre-cropped to the size of the generated ones, as in ADM.
        metric: Names of the metrics. ``'class_accuracy'`` is the share of images that the extractor
            classifies as the class they were sampled for.
        batch_size: Batch size of the real images.
        num_workers: Number of processes that read the real images.
        **kwargs: Arguments of MMEngine's BaseMetric.

    Raises:
        UserError: If the arguments contradict each other, there are no real images, or the
            extractor's files are missing.
    """

    def __init__(
        self,
        extractor: dict,
        real: str | None = None,
        metric: Sequence[str] = ('fid', 'inception_score', 'precision', 'recall'),
        *,
        batch_size: int = 64,
        num_workers: int = 2,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if not metric or not set(metric) <= set(MIN_IMAGES):
            raise UserError(f'Expected metric to be a list of {tuple(MIN_IMAGES)}, got {metric}.')
        self.real = real
        self.metric = metric
        self.batch_size = batch_size
        self.num_workers = num_workers
        self._real_paths = self._find_real() if self._wants(*NEED_REAL) else []
        self._real_features = None
        self._protocol = self._image_size = None
        self.extractor = build_extractor(extractor)
        if self._wants('class_accuracy') and not self.extractor.knows_classes:
            raise UserError(
                "'class_accuracy' needs a classifier of the generated classes: "
                "extractor=dict(type='classifier', config=..., checkpoint=...)."
            )

    def _wants(self, *names: str) -> bool:
        return not set(names).isdisjoint(self.metric)

    def _find_real(self) -> list[Path]:
        """Lists the real images; an empty list if ``real`` is a file of statistics."""
        path = Path(self.real or '')
        if path.suffix == '.npz':
            if self._wants('precision', 'recall'):
                raise UserError(
                    f'Precision and recall need images, but {path} holds statistics. Set real to '
                    'a folder, or remove them from metric.'
                )
            self._read_statistics()  # fails early if it cannot
            return []
        paths = list_images(path) if self.real else []
        needed = max(MIN_IMAGES[name] for name in self.metric if name in NEED_REAL)
        if len(paths) < needed:
            raise UserError(
                f'Expected at least {needed} real images in {self.real} (looked at '
                f'{path.absolute()}), got {len(paths)}. Set real to a folder of images, or to an '
                '.npz with mu and sigma.'
            )
        return paths

    def _read_statistics(self) -> tuple[np.ndarray, np.ndarray]:
        """Reads mean and covariance of the real images' features from a file."""
        try:
            with np.load(self.real) as file:
                return file['mu'], file['sigma']
        except (OSError, EOFError, KeyError, ValueError, BadZipFile) as error:
            raise UserError(
                f'Cannot read the statistics {self.real}: {error}. Expected an .npz with mu, (D,), '
                'and sigma, (D, D), such as the VIRTUAL_imagenet256_labeled.npz of ADM.'
            ) from error

    @torch.no_grad()
    def _extract(self, images: Tensor) -> tuple[np.ndarray, np.ndarray]:
        features, logits = self.extractor(images)
        return features.float().cpu().numpy(), logits.float().cpu().numpy()

    def process(self, data_batch, data_samples: Sequence[dict]) -> None:
        """Extracts the features of a batch of generated images.

        Args:
            data_batch: Unused.
            data_samples: For each sample ``image``, (3, H, H), uint8, RGB, on the CPU; ``label``,
                the class it was sampled for; ``protocol``, the sampling settings.

        Raises:
            UserError: If the statistics of the real images are of another extractor.
        """
        images = torch.stack([sample['image'] for sample in data_samples])
        labels = [int(sample['label']) for sample in data_samples]
        self._image_size, self._protocol = images.shape[-1], data_samples[0]['protocol']
        features, logits = self._extract(images)
        if self._wants('fid') and not self._real_paths and not self.results:
            self._real_statistics(features.shape[1])  # fails early if they do not fit
        self.results.extend(zip(features, logits, labels, strict=True))

    def evaluate(self, size: int) -> dict:
        """Computes the metrics of all processes' samples.

        Args:
            size: Number of samples, without those repeated to fill the last batch.

        Raises:
            UserError: If there are too few samples.
        """
        needed = max(MIN_IMAGES[name] for name in self.metric)
        if size < needed:
            raise UserError(
                f'Expected at least {needed} samples for {", ".join(self.metric)}, got {size}.'
            )
        if self._real_paths and self._real_features is None:
            self._real_features = self._extract_real()
        return super().evaluate(size)

    def _extract_real(self) -> np.ndarray:
        """Returns the real images' features, (M, D), in the main process; elsewhere empty."""
        print_log(
            f'Extracting features of {len(self._real_paths)} images in {self.real}.', 'current'
        )
        images = SquareImages(self._real_paths, self._image_size)
        loader = DataLoader(
            images,
            self.batch_size,
            sampler=DefaultSampler(images, shuffle=False),  # splits them among the processes
            num_workers=self.num_workers,
        )
        features = [row for batch in loader for row in self._extract(batch)[0]]
        features = collect_results(features, len(images), self.collect_device)
        return np.stack(features) if is_main_process() else np.empty(0)

    def compute_metrics(self, results: list[tuple]) -> dict:
        """Computes the metrics.

        Args:
            results: For each sample its features (D,), logits (classes,) and label.

        Returns:
            The metrics by name, and ``protocol``.
        """
        features, logits, labels = (np.stack(column) for column in zip(*results, strict=True))
        metrics = {}
        if self._wants('fid'):
            metrics['fid'] = frechet_distance(features, *self._real_statistics(features.shape[1]))
        if self._wants('inception_score'):
            metrics['inception_score'] = inception_score(logits)
        if self._wants('precision', 'recall'):
            metrics['precision'], metrics['recall'] = precision_recall(
                features, self._real_features
            )
        if self._wants('class_accuracy'):
            metrics['class_accuracy'] = float((logits.argmax(1) == labels).mean())
        metrics = {name: metrics[name] for name in self.metric}
        return dict(metrics, protocol=self._describe_protocol(len(results)))

    def _real_statistics(self, num_features: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns mean and covariance of the real images' features."""
        if self._real_paths:
            features = self._real_features.astype(np.float64)
            return features.mean(0), np.cov(features, rowvar=False)
        mu, sigma = self._read_statistics()
        if len(mu) != num_features:
            raise UserError(
                f'{self.real} holds statistics of {len(mu)} features, but the extractor has '
                f'{num_features}. Use the extractor they were computed with.'
            )
        return mu, sigma

    def _describe_protocol(self, num_samples: int) -> dict:
        return dict(
            num_samples=num_samples,
            **self._protocol,
            extractor=self.extractor.description,
            real=self.real,
            num_real=len(self._real_paths) or None,
        )
