from .generation import ImageFolder, SampleRequests

__all__ = ['ImageFolder', 'SampleRequests']
