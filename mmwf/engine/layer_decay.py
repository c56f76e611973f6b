"""Layer-wise learning rate decay."""

from torch import nn

from mmwf.registry import OPTIM_WRAPPER_CONSTRUCTORS

from .param_groups import OptimWrapperConstructor


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(OptimWrapperConstructor):
    """Decays the learning rate of backbone layers with their distance from the head.

    ``backbone.get_layer_depth(name, 'backbone.')`` returns ``(layer, num_layers)`` of a parameter;
    its learning rate is ``lr * layer_decay_rate ** (num_layers - 1 - layer)``. Parameters outside
    the backbone keep the full rate. Groups are merged as in :class:`.OptimWrapperConstructor`.

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
        ``norm_decay_mult=0`` reproduces detectron2: weight decay for biases and channels-first
        norms, but not for :class:`torch.nn.LayerNorm` (``mmwf.LayerNorm2d`` is not a subclass).
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
        backbone = getattr(module, 'backbone', None)
        if not prefix and not hasattr(backbone, 'get_layer_depth'):
            raise ValueError(
                f'Layer decay expects {type(module).__name__}.backbone to have get_layer_depth(), '
                f'got {"no backbone" if backbone is None else type(backbone).__name__}.'
            )
        super().add_params(params, module, prefix, **kwargs)

    def _settings(
        self, name: str, parameter: nn.Parameter, module: nn.Module, options: dict
    ) -> dict:
        settings = super()._settings(name, parameter, module, options)
        layer, num_layers = module.backbone.get_layer_depth(name, 'backbone.')
        settings['lr'] *= self.paramwise_cfg['layer_decay_rate'] ** (num_layers - 1 - layer)
        flat_mult = self.paramwise_cfg.get('backbone_flat_decay_mult')
        is_flat = name.startswith('backbone.') and parameter.ndim == 1
        if is_flat and flat_mult is not None and 'weight_decay' in settings:
            settings['weight_decay'] *= flat_mult
        return settings
