"""Placeholders of our models in MMEngine's root registry."""

from importlib import import_module

from mmengine.registry import MODELS

#: The models that configs may name without the scope ``mmwf``.
NAMES = ('LayerNorm2d', 'SimpleFPN', 'WeightFormer')


def _make(name: str) -> type:
    def build(cls, *args, **kwargs):
        return getattr(import_module('mmwf.models'), name)(*args, **kwargs)

    # A class, not a function: mmcv's build_norm_layer requires one.
    return type(name, (), {'__new__': build})


def register() -> None:
    """Registers a placeholder for each name, so that ``type=NAME`` works after ``import mmwf``.

    When one is built, ``mmwf.models`` is imported, and its classes replace the placeholders. So
    ``import mmwf`` does not import MMEngine's model package, which takes a second.
    """
    for name in NAMES:
        MODELS.register_module(name=name, module=_make(name))
