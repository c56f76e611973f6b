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

NUM_NEIGHBORS = 3  # of precision and recall, as in their paper
NUM_SPLITS = 10  # of Inception Score, as in its paper
#: The metrics, and the fewest images that they are defined for.
MIN_IMAGES = {
    'fid': 2,
    'inception_score': NUM_SPLITS,
    'precision': NUM_NEIGHBORS + 1,
    'recall': NUM_NEIGHBORS + 1,
    'class_accuracy': 1,
}
#: Those that compare with real images.
COMPARING = ('fid', 'precision', 'recall')


def frechet_distance(features: np.ndarray, mu: np.ndarray, sigma: np.ndarray) -> float:
    """Computes the Fréchet distance between two sets of features, FID (Heusel et al. 2017).

    Args:
        features: Of the generated images, (N, D).
        mu: Mean of the real images' features, (D,).
        sigma: Their covariance, (D, D).
    """
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    ours = fid_features_to_statistics(torch.from_numpy(features).double())
    real = dict(mu=mu.astype(np.float64), sigma=sigma.astype(np.float64))
    return fid_statistics_to_metric(ours, real, verbose=False)['frechet_inception_distance']


def inception_score(logits: np.ndarray, splits: int = NUM_SPLITS) -> float:
    """Computes the mean Inception Score over splits (Salimans et al. 2016).

    Args:
        logits: Of the generated images, (N, classes).
        splits: Into how many parts they are divided, in random order.
    """
    from torch_fidelity.metric_isc import isc_features_to_metric

    return isc_features_to_metric(torch.from_numpy(logits), splits)['inception_score_mean']


def precision_recall(
    features: np.ndarray, real: np.ndarray, neighbors: int = NUM_NEIGHBORS
) -> tuple[float, float]:
    """Computes improved precision and recall (Kynkäänniemi et al. 2019).

    Args:
        features: Of the generated images, (N, D).
        real: Of the real images, (M, D).
        neighbors: The ball around an image reaches to its neighbour of this rank.

    Returns:
        The share of generated images in a ball of a real one, and the other way round.
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
    """FID, Inception Score, precision, recall, and accuracy of the class that was asked for.

    Of each image only features and class scores are kept. The result has an entry ``protocol``
    beside the figures: how the images were sampled, how many, and what they were compared with.

    Args:
        extractor: What describes images: ``dict(type='inception')``, perhaps with ``weights``, or
            ``dict(type='classifier', config=..., checkpoint=...)``.
        real: The real images: a folder with images in it and below, or for FID alone an ``.npz``
            with ``mu`` and ``sigma`` of their features, as ADM and DiT publish. Images are cut to
            the size of the generated ones, as in ADM.
        metric: Names of those to compute. ``'class_accuracy'`` is the share of images that the
            extractor sees as the class that was asked for.
        batch_size: Of real images.
        num_workers: Processes that read real images.
        **kwargs: MMEngine's.

    Raises:
        UserError: If the arguments do not go together, there are no real images, or the extractor's
            files cannot be had.
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
            raise UserError(
                f'Expected metric to be a list out of {tuple(MIN_IMAGES)}, got {metric}.'
            )
        self.real = real
        self.metric = metric
        self.batch_size = batch_size
        self.num_workers = num_workers
        self._real_paths = self._find_real() if self._wants(*COMPARING) else []
        self._real_features = None
        self._protocol = self._image_size = None
        self.extractor = build_extractor(extractor)
        if self._wants('class_accuracy') and not self.extractor.knows_classes:
            raise UserError(
                "'class_accuracy' needs an extractor that knows the classes of the data: "
                "extractor=dict(type='classifier', config=..., checkpoint=...)."
            )

    def _wants(self, *names: str) -> bool:
        return not set(names).isdisjoint(self.metric)

    def _find_real(self) -> list[Path]:
        """Lists the real images; none if there are statistics instead."""
        path = Path(self.real or '')
        if path.suffix == '.npz':
            if self._wants('precision', 'recall'):
                raise UserError(
                    f'Precision and recall need images, and {path} holds statistics. Set real to '
                    'a folder, or leave them out of metric.'
                )
            self._statistics()
            return []
        paths = list_images(path) if self.real else []
        needed = max(MIN_IMAGES[name] for name in self.metric if name in COMPARING)
        if len(paths) < needed:
            raise UserError(
                f'Expected at least {needed} real images in {self.real} and below (looked at '
                f'{path.absolute()}), got {len(paths)}. Set real to a folder of images, or to an '
                '.npz with mu and sigma.'
            )
        return paths

    def _statistics(self) -> tuple[np.ndarray, np.ndarray]:
        """Reads mean and covariance of the real images' features."""
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
        """Describes a batch of generated images.

        Args:
            data_batch: Not used.
            data_samples: For each sample ``image`` (3, H, H), uint8 as RGB, on the CPU; ``label``,
                the class that was asked for; ``protocol``, how it was sampled.

        Raises:
            UserError: If the real images' statistics are of another extractor.
        """
        images = torch.stack([sample['image'] for sample in data_samples])
        labels = [int(sample['label']) for sample in data_samples]
        self._image_size, self._protocol = images.shape[-1], data_samples[0]['protocol']
        features, logits = self._extract(images)
        if self._wants('fid') and not self._real_paths and not self.results:
            self._real_statistics(features.shape[1])  # they may not fit: known before the work
        self.results.extend(zip(features, logits, labels, strict=True))

    def evaluate(self, size: int) -> dict:
        """Computes the metrics of all processes' samples.

        Args:
            size: Number of samples; what a sampler repeats to fill the last batch is left out.

        Raises:
            UserError: If there are too few samples.
        """
        needed = max(MIN_IMAGES[name] for name in self.metric)
        if size < needed:
            raise UserError(
                f'Expected at least {needed} samples for {", ".join(self.metric)}, got {size}.'
            )
        if self._real_paths and self._real_features is None:
            self._real_features = self._describe_real()
        return super().evaluate(size)

    def _describe_real(self) -> np.ndarray:
        """Computes the real images' features, (M, D), which only the main process gets."""
        print_log(
            f'Extracting features of {len(self._real_paths)} images in {self.real}.', 'current'
        )
        images = SquareImages(self._real_paths, self._image_size)
        loader = DataLoader(
            images,
            self.batch_size,
            sampler=DefaultSampler(images, shuffle=False),  # shares them among processes
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
            The figures under their names, and ``protocol``.
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
        if self._real_paths:
            features = self._real_features.astype(np.float64)
            return features.mean(0), np.cov(features, rowvar=False)
        mu, sigma = self._statistics()
        if len(mu) != num_features:
            raise UserError(
                f'{self.real} holds statistics of {len(mu)} features, and the extractor gives '
                f'{num_features}. Use the extractor that they were made with.'
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
