from .generation import GenerationMetric
from .segmentation import DumpSegResults, IoUMetric

__all__ = ['DumpSegResults', 'GenerationMetric', 'IoUMetric']
