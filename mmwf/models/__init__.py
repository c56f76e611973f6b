from .backbones import WeightFormer

__all__ = ['WeightFormer']
