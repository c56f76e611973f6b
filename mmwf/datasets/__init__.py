from .image_folder import ImageFolder
from .sample_requests import SampleRequests

__all__ = ['ImageFolder', 'SampleRequests']
