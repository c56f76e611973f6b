from .amp import AmpOptimWrapper
from .checkpoint_hook import CheckpointHook
from .data_wait import DataWaitHook
from .feature_bank import FeatureBankHook
from .hooks import CheckpointMatchHook, Fp16CompressionHook, ResumeSeedHook
from .layer_decay import LayerDecayOptimWrapperConstructor
from .param_groups import OptimWrapperConstructor
from .work_dir import WorkDirHook

__all__ = [
    'AmpOptimWrapper',
    'CheckpointHook',
    'CheckpointMatchHook',
    'DataWaitHook',
    'FeatureBankHook',
    'Fp16CompressionHook',
    'LayerDecayOptimWrapperConstructor',
    'OptimWrapperConstructor',
    'ResumeSeedHook',
    'WorkDirHook',
]
