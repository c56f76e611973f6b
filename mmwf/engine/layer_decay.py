"""Layer-wise learning rate decay."""

from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn

from mmwf.registry import OPTIM_WRAPPER_CONSTRUCTORS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Decays the learning rate of backbone layers with their distance from the head.

    ``backbone.get_layer_depth(name, 'backbone.')`` returns ``(layer, num_layers)`` of a parameter;
    its learning rate is ``lr * layer_decay_rate ** (num_layers - 1 - layer)``. Parameters outside
    the backbone keep the full rate. Parameters with the same settings share one group.

    Args:
        optim_wrapper_cfg: As in MMEngine.
        paramwise_cfg: The settings of MMEngine's default constructor (``norm_decay_mult``,
            ``bias_decay_mult``, ``flat_decay_mult``, ``custom_keys``, ...), and:

            - ``layer_decay_rate``: in (0, 1]; required.
            - ``backbone_flat_decay_mult``: factor of the weight decay of the backbone's
              one-dimensional parameters (biases and norms).

    Raises:
        ValueError: If ``layer_decay_rate`` is missing or out of range, or the model has no backbone
            with ``get_layer_depth``.

    Note:
        ``norm_decay_mult=0`` reproduces detectron2: no weight decay for
        :class:`torch.nn.LayerNorm`, but for biases and channel-first norms (``mmwf.LayerNorm2d`` is
        not a :class:`torch.nn.LayerNorm`).
    """

    def _validate_cfg(self) -> None:
        super()._validate_cfg()
        rate = self.paramwise_cfg.get('layer_decay_rate')
        if not isinstance(rate, (int, float)) or not 0 < rate <= 1:
            raise ValueError(
                f'Expected paramwise_cfg.layer_decay_rate to be a number in (0, 1], got {rate!r}.'
            )

    def add_params(self, params: list[dict], module: nn.Module, prefix: str = '', **kwargs) -> None:
        """Appends the parameter groups of the model to ``params``."""
        if prefix:  # a recursive call by MMEngine, for a submodule
            super().add_params(params, module, prefix, **kwargs)
            return
        backbone = getattr(module, 'backbone', None)
        if not hasattr(backbone, 'get_layer_depth'):
            raise ValueError(
                f'Layer decay expects {type(module).__name__}.backbone to have get_layer_depth(), '
                f'got {"no backbone" if backbone is None else type(backbone).__name__}.'
            )
        single: list[dict] = []  # one group for each parameter
        super().add_params(single, module, prefix, **kwargs)
        names = {parameter: name for name, parameter in module.named_parameters()}
        groups: dict[tuple, list] = {}
        for options in single:
            (parameter,) = options.pop('params')
            settings = self._settings(names[parameter], parameter, backbone, options)
            groups.setdefault(tuple(settings.items()), []).append(parameter)
        for settings, parameters in groups.items():
            name = ', '.join(f'{key}={value}' for key, value in settings)
            params.append(dict(settings, name=name, params=parameters))

    def _settings(self, name: str, parameter: nn.Parameter, backbone, options: dict) -> dict:
        """Returns the settings of one parameter; ``options`` are the default constructor's."""
        layer, num_layers = backbone.get_layer_depth(name, 'backbone.')
        scale = self.paramwise_cfg['layer_decay_rate'] ** (num_layers - 1 - layer)
        weight_decay = options.get('weight_decay', self.base_wd)
        flat_mult = self.paramwise_cfg.get('backbone_flat_decay_mult')
        is_flat = name.startswith('backbone.') and parameter.ndim == 1
        if is_flat and flat_mult is not None and weight_decay is not None:
            weight_decay *= flat_mult
        settings = dict(lr=options.get('lr', self.base_lr) * scale)
        if weight_decay is not None:
            settings['weight_decay'] = weight_decay
        known = ('lr', 'weight_decay', 'lr_mult', 'decay_mult')
        return settings | {key: value for key, value in options.items() if key not in known}
