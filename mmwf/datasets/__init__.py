from .latents import LatentDataset

__all__ = ['LatentDataset']
