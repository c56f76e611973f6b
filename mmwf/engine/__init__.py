from .amp import AmpOptimWrapper
from .hooks import CheckpointMatchHook

__all__ = ['AmpOptimWrapper', 'CheckpointMatchHook']
