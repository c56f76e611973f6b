from .segmentation import IoUMetric

__all__ = ['IoUMetric']
