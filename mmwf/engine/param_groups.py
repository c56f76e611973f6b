"""Optimizers with few parameter groups."""

import inspect

import torch
from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import OPTIMIZERS
from torch import nn

from mmwf.registry import OPTIM_WRAPPER_CONSTRUCTORS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class OptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """MMEngine's default constructor, with one group for all parameters of the same settings.

    MMEngine makes a group for each parameter, and an optimizer step then launches kernels for each
    of them. On a GPU the optimizer is also fused (``fused=True``), if it supports that and the
    config sets neither ``fused`` nor ``foreach``.

    Parameters with a factor of 0 on their learning rate (``lr_mult=0``) get no group: they never
    change. In a group with rate 0, a schedule with an absolute ``eta_min`` would train them.

    Args:
        optim_wrapper_cfg: As in MMEngine.
        paramwise_cfg: As in MMEngine.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None):
        super().__init__(optim_wrapper_cfg, paramwise_cfg)
        optimizer = OPTIMIZERS.get(self.optimizer_cfg['type'])
        known = inspect.signature(optimizer).parameters if optimizer else ()
        chosen = self.optimizer_cfg.keys() & {'fused', 'foreach'}
        if torch.cuda.is_available() and 'fused' in known and not chosen:
            self.optimizer_cfg = dict(self.optimizer_cfg, fused=True)

    def add_params(self, params: list[dict], module: nn.Module, prefix: str = '', **kwargs) -> None:
        """Appends the parameter groups of the model to ``params``.

        Raises:
            ValueError: If no parameter is trained.
        """
        if prefix:  # a recursive call by MMEngine, for a submodule
            super().add_params(params, module, prefix, **kwargs)
            return
        single: list[dict] = []  # one group for each parameter
        super().add_params(single, module, prefix, **kwargs)
        names = {parameter: name for name, parameter in module.named_parameters()}
        groups: dict[str, dict] = {}
        frozen = 0
        for options in single:
            (parameter,) = options.pop('params')
            settings = self._settings(names[parameter], parameter, module, options)
            if settings.get('lr') == 0 and self.base_lr:
                frozen += 1
                continue
            name = ', '.join(f'{key}={value}' for key, value in settings.items())
            group = groups.setdefault(name, dict(settings, name=name, params=[]))
            group['params'].append(parameter)
        if not groups:
            raise ValueError('Nothing is trained: each parameter has lr_mult=0 or is frozen.')
        if frozen:
            print_log(
                f'{frozen} parameters with lr_mult=0 are frozen. Their layers still run as in '
                'training, with dropout and statistics of batches; frozen_stages of a backbone '
                'changes that, too, and saves time.',
                logger='current',
            )
        params.extend(groups.values())

    def _settings(
        self, name: str, parameter: nn.Parameter, module: nn.Module, options: dict
    ) -> dict:
        """Returns the settings of one parameter; ``options`` are the default constructor's."""
        settings = {}
        for key, default in (('lr', self.base_lr), ('weight_decay', self.base_wd)):
            value = options.get(key, default)
            if value is not None:
                settings[key] = value
        known = ('lr', 'weight_decay', 'lr_mult', 'decay_mult')
        return settings | {key: value for key, value in options.items() if key not in known}
