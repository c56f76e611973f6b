from .hooks import WeightStrengthHook

__all__ = ['WeightStrengthHook']
