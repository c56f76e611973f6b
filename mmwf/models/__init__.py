from .backbones import WeightFormer
from .layers import LayerNorm2d
from .necks import SimpleFPN

__all__ = ['LayerNorm2d', 'SimpleFPN', 'WeightFormer']
