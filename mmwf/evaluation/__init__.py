"""Metrics."""

from mmwf.registry import METRICS

from .dump import DumpSegResults
from .generation import GenerationMetric

__all__ = ['DumpSegResults', 'GenerationMetric']


@METRICS.register_module(name='IoUMetric')
def _build_iou_metric(**kwargs):
    """Builds the IoUMetric; only then is mmseg imported."""
    from .segmentation import IoUMetric

    return IoUMetric(**kwargs)
