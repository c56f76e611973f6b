from .weightformer import WeightFormer

__all__ = ['WeightFormer']
