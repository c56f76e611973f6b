from .image_folder import ImageFolder
from .latents import LatentDataset
from .sample_requests import SampleRequests

__all__ = ['ImageFolder', 'LatentDataset', 'SampleRequests']
