from .backbones import WeightFormer
from .diffusion import Denoiser, GaussianDiffusion, PixelPreprocessor
from .heads import KNNHead
from .layers import LayerNorm2d
from .necks import SimpleFPN
from .tta import InstanceTTAModel

__all__ = [
    'Denoiser',
    'GaussianDiffusion',
    'InstanceTTAModel',
    'KNNHead',
    'LayerNorm2d',
    'PixelPreprocessor',
    'SimpleFPN',
    'WeightFormer',
]
