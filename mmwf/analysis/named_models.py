"""Backbones by name, from shipped configs, config files and timm."""

from mmengine.registry import MODELS, init_default_scope
from torch import nn

from mmwf import ops
from mmwf.config_files import shipped_configs
from mmwf.engine.config import load_config
from mmwf.errors import UserError
from mmwf.libraries import import_task_library

#: Shipped configs by short name.
NAMED = {
    'weightformer-tiny': 'configs/classification/weightformer-tiny-p16_8xb256_in1k.py',
    'weightformer-small': 'configs/classification/weightformer-small-p16_8xb256_in1k.py',
    'weightformer-base': 'configs/classification/weightformer-base-p16_8xb256_in1k-448px.py',
    'deit-tiny': 'configs/classification/deit-tiny-p16_8xb256_in1k.py',
    'deit-small': 'configs/classification/deit-small-p16_8xb256_in1k.py',
}
#: Prefix of the models above, or of a config file, evaluated by the backend ``'plain'``.
PLAIN = 'plain:'
#: Prefixes of timm's models, with fused attention or with plain attention (N x N in memory).
TIMM = ('timm:', 'timm-plain:')


def check_name(name: str) -> None:
    """Checks that a model exists.

    Args:
        name: As in :func:`build_named`.

    Raises:
        UserError: If there is no such model.
    """
    if name.startswith(TIMM):
        import timm

        if not timm.is_model(name.split(':')[1]):
            raise UserError(f'timm {timm.__version__} has no model {name.split(":")[1]}.')
        return
    name = name.removeprefix(PLAIN)
    if name not in NAMED and not name.endswith('.py') and name not in shipped_configs():
        raise UserError(
            f'Expected one of {", ".join(NAMED)}, plain: and one of these (the equations as they '
            'are in the paper), timm:NAME, timm-plain:NAME (without fused attention) or a config '
            f'(a file, or the name of a shipped one); got {name}.'
        )
    elif 'backbone' not in load_config(NAMED.get(name, name)).get('model', {}):
        raise UserError(f'Expected a config whose model has a backbone, got {name}.')


def build_named(name: str, size: int) -> nn.Module:
    """Builds a model without its head.

    Args:
        name: A key of ``NAMED``, ``timm:NAME``, ``timm-plain:NAME`` or a config file, whose
            backbone is built. ``plain:`` before it sets the backend ``'plain'`` in this process.
        size: Height and width of the images, for models with a fixed position embedding.
    """
    if name.startswith(TIMM):
        import timm

        timm.layers.set_fused_attn(name.startswith('timm:'))
        model = timm.create_model(name.split(':')[1], num_classes=0)
        if hasattr(model, 'set_input_size'):
            model.set_input_size(img_size=size)
        return model
    if name.startswith(PLAIN):
        ops.set_backend('plain')
        name = name.removeprefix(PLAIN)
    cfg = load_config(NAMED.get(name, name))
    backbone = cfg.model.backbone
    if 'img_size' in backbone:
        backbone.img_size = size
    if not backbone.type.startswith('mmwf.'):
        import_task_library(cfg)
        init_default_scope(cfg.get('default_scope'))
    return MODELS.build(backbone)
