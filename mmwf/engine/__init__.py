from .amp import AmpOptimWrapper
from .checkpoint_hook import CheckpointHook
from .data_wait import DataWaitHook
from .exact_resume import ExactResumeHook
from .feature_bank import FeatureBankHook
from .hooks import CheckpointMatchHook, Fp16CompressionHook
from .layer_decay import LayerDecayOptimWrapperConstructor
from .non_finite import NonFiniteHook
from .param_groups import OptimWrapperConstructor
from .signals import SignalHook
from .stall import StallHook
from .work_dir import WorkDirHook

__all__ = [
    'AmpOptimWrapper',
    'CheckpointHook',
    'CheckpointMatchHook',
    'DataWaitHook',
    'ExactResumeHook',
    'FeatureBankHook',
    'Fp16CompressionHook',
    'LayerDecayOptimWrapperConstructor',
    'NonFiniteHook',
    'OptimWrapperConstructor',
    'SignalHook',
    'StallHook',
    'WorkDirHook',
]
