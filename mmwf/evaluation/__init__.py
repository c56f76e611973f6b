from .segmentation import DumpSegResults, IoUMetric

__all__ = ['DumpSegResults', 'IoUMetric']
