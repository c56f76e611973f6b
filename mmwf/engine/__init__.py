from .amp import AmpOptimWrapper
from .hooks import CheckpointMatchHook, Fp16CompressionHook, WeightStrengthHook
from .layer_decay import LayerDecayOptimWrapperConstructor

__all__ = [
    'AmpOptimWrapper',
    'CheckpointMatchHook',
    'Fp16CompressionHook',
    'LayerDecayOptimWrapperConstructor',
    'WeightStrengthHook',
]
