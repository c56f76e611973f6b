from .backbones import WeightFormer
from .layers import LayerNorm2d
from .necks import SimpleFPN
from .tta import InstanceTTAModel

__all__ = ['InstanceTTAModel', 'LayerNorm2d', 'SimpleFPN', 'WeightFormer']
