from . import heads  # noqa: F401  (registers them)
from .backbones import WeightFormer
from .diffusion import Denoiser, GaussianDiffusion, PixelPreprocessor
from .layers import LayerNorm2d
from .necks import SimpleFPN
from .tta import InstanceTTAModel

__all__ = [
    'Denoiser',
    'GaussianDiffusion',
    'InstanceTTAModel',
    'LayerNorm2d',
    'PixelPreprocessor',
    'SimpleFPN',
    'WeightFormer',
]
