"""The scope ``mmwf``: lets a config write ``type='mmwf.X'`` without importing anything.

Models are registered in MMEngine's root registry, where every OpenMMLab library finds them under
their plain name too. What shares its name with a class of another library (hooks, transforms, ...)
is registered here.
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
    'register_on_first_use',
]

MODELS = Registry('model', parent=ROOT_MODELS, scope='mmwf', locations=['mmwf.models'])
DATASETS = Registry('dataset', parent=ROOT_DATASETS, scope='mmwf', locations=['mmwf.datasets'])
HOOKS = Registry('hook', parent=ROOT_HOOKS, scope='mmwf', locations=['mmwf.engine'])
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
    'transform', parent=ROOT_TRANSFORMS, scope='mmwf', locations=['mmwf.datasets.transforms']
)


def register_on_first_use(name: str) -> None:
    """Lets ``type=name`` build a model of ours after nothing but ``import mmwf``.

    The models are imported when the first one is built, and then register themselves in place of
    this stand-in: importing MMEngine's model package takes a second that ``import mmwf`` saves. The
    stand-in is a class, since mmcv's ``build_norm_layer`` asks for one.
    """

    def build(cls, *args, **kwargs):
        from . import models

        return getattr(models, name)(*args, **kwargs)

    ROOT_MODELS.register_module(name=name, module=type(name, (), {'__new__': build}))
