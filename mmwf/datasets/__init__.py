from .image_folder import ImageFolder
from .latents import LatentDataset
from .sample_requests import SampleRequests
from .tar_images import TarImages

__all__ = ['ImageFolder', 'LatentDataset', 'SampleRequests', 'TarImages']
