"""Metrics of semantic segmentation."""

from collections.abc import Sequence

from mmengine.evaluator import DumpResults
from mmseg.evaluation import IoUMetric as MMSegIoUMetric

from mmwf.registry import METRICS


@METRICS.register_module()
class IoUMetric(MMSegIoUMetric):
    """mmseg's mIoU, mAcc and aAcc in percent, and the IoU of each class among them.

    Args:
        per_class: Whether to report ``'IoU.CLASS'`` for each class that occurs in the truth or in a
            prediction; the others have none. mmseg only prints them.
        **kwargs: mmseg's.
    """

    def __init__(self, per_class: bool = True, **kwargs):
        super().__init__(**kwargs)
        self.per_class = per_class

    def compute_metrics(self, results: Sequence[tuple]) -> dict[str, float]:
        """Computes the metrics of a data set.

        Args:
            results: For each image the pixels of each class, (num_classes,), in the intersection of
                truth and prediction, in their union, in the prediction and in the truth.
        """
        metrics = super().compute_metrics(results)
        if self.per_class and not self.format_only:
            intersections, unions, _, _ = (sum(areas) for areas in zip(*results, strict=True))
            for name, intersection, union in zip(
                self.dataset_meta['classes'], intersections, unions, strict=True
            ):
                if union:
                    metrics[f'IoU.{name.strip()}'] = round(100 * (intersection / union).item(), 2)
        return metrics


@METRICS.register_module()
class DumpSegResults(DumpResults):
    """MMEngine's ``DumpResults`` without the scores of every class at every pixel, which no memory
    holds for a whole data set.

    All arguments are MMEngine's.
    """

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Stores the samples of a batch."""
        slim = [{k: v for k, v in s.items() if k != 'seg_logits'} for s in data_samples]
        super().process(data_batch, slim)
