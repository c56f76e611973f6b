from .amp import AmpOptimWrapper
from .data_wait import DataWaitHook
from .feature_bank import FeatureBankHook
from .hooks import CheckpointMatchHook, Fp16CompressionHook, ResumeSeedHook
from .layer_decay import LayerDecayOptimWrapperConstructor
from .param_groups import OptimWrapperConstructor

__all__ = [
    'AmpOptimWrapper',
    'CheckpointMatchHook',
    'DataWaitHook',
    'FeatureBankHook',
    'Fp16CompressionHook',
    'LayerDecayOptimWrapperConstructor',
    'OptimWrapperConstructor',
    'ResumeSeedHook',
]
