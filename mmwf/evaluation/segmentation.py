"""Metrics of semantic segmentation. ``mmwf.evaluation`` registers them without importing mmseg."""

from collections.abc import Sequence

from mmseg.evaluation import IoUMetric as MMSegIoUMetric


class IoUMetric(MMSegIoUMetric):
    """mmseg's IoUMetric (mIoU, mAcc and aAcc in percent) that also returns the IoU of each class.

    mmseg only prints the latter.

    Args:
        per_class: Whether to return ``'IoU.CLASS'`` for each class that occurs in the ground truth
            or in a prediction; the IoU of the others is undefined.
        **kwargs: Arguments of mmseg's IoUMetric.
    """

    def __init__(self, per_class: bool = True, **kwargs):
        super().__init__(**kwargs)
        self.per_class = per_class

    def compute_metrics(self, results: Sequence[tuple]) -> dict[str, float]:
        """Computes the metrics of a dataset.

        Args:
            results: For each image four tensors (num_classes,) with the pixels of each class in
                the intersection of ground truth and prediction, in their union, in the prediction,
                and in the ground truth.
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
