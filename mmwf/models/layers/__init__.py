from .basic import DropPath, DWConv2d, LayerNorm2d, PatchEmbed
from .blocks import DynamicBlock, Mlp, StaticBlock
from .dynamic_dwconv import DWCONV_PREDICTORS, DynamicDWConv2d
from .dynamic_linear import LINEAR_PREDICTORS, DynamicLinear
from .predictor import WeightPredictor

__all__ = [
    'DWCONV_PREDICTORS',
    'LINEAR_PREDICTORS',
    'DWConv2d',
    'DropPath',
    'DynamicBlock',
    'DynamicDWConv2d',
    'DynamicLinear',
    'LayerNorm2d',
    'Mlp',
    'PatchEmbed',
    'StaticBlock',
    'WeightPredictor',
]
