from .denoiser import Denoiser
from .gaussian_diffusion import GaussianDiffusion, PixelPreprocessor

__all__ = ['Denoiser', 'GaussianDiffusion', 'PixelPreprocessor']
