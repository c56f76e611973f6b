"""The scope ``mmwf``: lets a config write ``type='mmwf.X'`` without importing anything.

WeightFormer, SimpleFPN and LayerNorm2d are in MMEngine's root registry, where every OpenMMLab
library finds them by their plain names. All other classes are in the registries below, since some
share their name with a class of another library.
"""

from mmengine.registry import DATASETS as ROOT_DATASETS
from mmengine.registry import HOOKS as ROOT_HOOKS
from mmengine.registry import METRICS as ROOT_METRICS
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as ROOT_OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.registry import OPTIM_WRAPPERS as ROOT_OPTIM_WRAPPERS
from mmengine.registry import TRANSFORMS as ROOT_TRANSFORMS
from mmengine.registry import Registry

__all__ = [
    'DATASETS',
    'HOOKS',
    'METRICS',
    'MODELS',
    'OPTIM_WRAPPERS',
    'OPTIM_WRAPPER_CONSTRUCTORS',
    'TRANSFORMS',
]

MODELS = Registry('model', parent=ROOT_MODELS, scope='mmwf', locations=['mmwf.models'])
DATASETS = Registry('dataset', parent=ROOT_DATASETS, scope='mmwf', locations=['mmwf.datasets'])
HOOKS = Registry(
    'hook', parent=ROOT_HOOKS, scope='mmwf', locations=['mmwf.engine', 'mmwf.analysis']
)
METRICS = Registry('metric', parent=ROOT_METRICS, scope='mmwf', locations=['mmwf.evaluation'])
OPTIM_WRAPPERS = Registry(
    'optim_wrapper', parent=ROOT_OPTIM_WRAPPERS, scope='mmwf', locations=['mmwf.engine']
)
OPTIM_WRAPPER_CONSTRUCTORS = Registry(
    'optimizer wrapper constructor',
    parent=ROOT_OPTIM_WRAPPER_CONSTRUCTORS,
    scope='mmwf',
    locations=['mmwf.engine'],
)
TRANSFORMS = Registry(
    'transform',
    parent=ROOT_TRANSFORMS,
    scope='mmwf',
    locations=['mmwf.datasets.transforms', 'mmwf.datasets.augmentation'],
)
