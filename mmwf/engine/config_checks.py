"""Mistakes in configs and ``--cfg-options``, found before data and model are loaded."""

import inspect
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from importlib.util import find_spec

from mmengine import registry
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import MODELS, DefaultScope, Registry
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from mmwf.datasets.checks import LOADERS
from mmwf.errors import UserError, did_you_mean
from mmwf.libraries import import_task_library

from .build_errors import describe_unknown, explain_build_error, keywords

#: Top-level keys besides the arguments of MMEngine's Runner: those that it, and mmwf, look up.
_OTHER_KEYS = (
    'activation_checkpointing', 'compile', 'custom_imports', 'efficient_conv_bn_eval',
    'find_unused_parameters', 'model_wrapper_cfg', 'tta_model', 'tta_pipeline',
    'allow_boxes_outside', 'allow_paths_outside', 'bank_dataloader', 'data_help',
    'float32_matmul_precision', 'weights_help',
)  # fmt: skip
_KEYS = ({*inspect.signature(Runner).parameters} - {'cfg'}) | {*_OTHER_KEYS}
_LOADER_KEYS = {
    *inspect.signature(DataLoader).parameters, 'num_batch_per_epoch', 'disable_subprocess_warning'
}  # fmt: skip
#: What is built at which place; ``*`` stands for each entry of a dict or list.
_PLACES: dict[str, Registry] = {
    'optim_wrapper.optimizer': registry.OPTIMIZERS,
    'default_hooks.*': registry.HOOKS,
    'custom_hooks.*': registry.HOOKS,
    'visualizer': registry.VISUALIZERS,
    'visualizer.vis_backends.*': registry.VISBACKENDS,
    'train_cfg': registry.LOOPS,
    'param_scheduler': registry.PARAM_SCHEDULERS,
    'param_scheduler.*': registry.PARAM_SCHEDULERS,
    'val_evaluator': registry.METRICS,
    'test_evaluator': registry.METRICS,
    'val_evaluator.*': registry.METRICS,
    'test_evaluator.*': registry.METRICS,
    **{f'{loader}.sampler': registry.DATA_SAMPLERS for loader in LOADERS},
}
#: Arguments of schedules that set a learning rate, whatever it was before.
_RATES = ('eta_min', 'eta_max', 'min_value')
_FROZEN_BY = ('mmwf.OptimWrapperConstructor', 'mmwf.LayerDecayOptimWrapperConstructor')


def check_options(cfg: Config, options: dict) -> None:
    """Checks that the keys of ``--cfg-options`` have a place in the config.

    Args:
        cfg: The config that they override.
        options: Values by dotted key.

    Raises:
        UserError: If a top-level key is unknown to the config, MMEngine and mmwf, or a key leads
            into a list beyond its end, or into something that is neither a dict nor a list.
    """
    replaced = [key.removesuffix('_delete_') for key in options if key.endswith('._delete_')]
    for key in options:
        first = key.partition('.')[0]
        if first not in cfg and first not in _KEYS:
            inside = sorted(_paths_to(cfg, key), key=len)[:2]
            hint = f' Did you mean {" or ".join(inside)}?' if inside else ''
            raise UserError(
                f'--cfg-options {key}: neither the config nor MMEngine knows {first!r}, so this '
                f'would change nothing.{hint or did_you_mean(first, {*cfg.keys(), *_KEYS})}'
            )
        if not key.startswith(tuple(replaced)):
            _check_path(cfg, key)


def _paths_to(node, name: str, path: str = '') -> Iterator[str]:
    """Yields the dotted keys that end in a name."""
    if isinstance(node, (dict, Config)):
        for key, value in node.items():
            full = f'{path}.{key}'.removeprefix('.')
            if key == name:
                yield full
            yield from _paths_to(value, name, full)


def _check_path(cfg: Config, key: str) -> None:
    node, parts = cfg, key.split('.')
    for i, part in enumerate(parts):
        path = '.'.join(parts[:i])
        if isinstance(node, list):
            if not part.isdigit() or int(part) >= len(node):
                known = f'; expected {path}.0 to {path}.{len(node) - 1}' if node else ''
                raise UserError(
                    f'--cfg-options {key}: {path} is a list of {len(node)}{known}, got '
                    f'{path}.{part}.'
                )
            node = node[int(part)]
        elif isinstance(node, (dict, Config)):
            if part not in node:
                return
            node = node[part]
        else:
            raise UserError(
                f'--cfg-options {key}: {path} is {node!r}, neither a dict nor a list, so it has '
                f'no {part!r}. Set {path} as a whole.'
            )


def check_config(cfg: Config) -> None:
    """Checks the settings of a run: data loaders, lengths, names and arguments of what is built.

    Models and datasets are not among them (see :func:`check_model`,
    :func:`mmwf.datasets.checks.check_datasets`).

    Args:
        cfg: The config, with the options of the command line.

    Raises:
        UserError: If a setting is unknown or has no sense.
    """
    for name in LOADERS:
        if cfg.get(name):
            _check_loader(name, cfg[name])
    _check_lengths(cfg)
    _check_tensorboard(cfg)
    _check_frozen(cfg)
    _check_hooks(cfg)
    import_task_library(cfg)
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope') or 'mmengine'):
        for place, kind in _PLACES.items():
            for path, settings in _find(cfg, place.split('.')):
                _check_arguments(path, settings, kind)


def _check_loader(name: str, loader: dict) -> None:
    for key in loader:
        if key not in _LOADER_KEYS:
            raise UserError(f'{name} has no setting {key!r}.{did_you_mean(key, _LOADER_KEYS)}')
    for key in ('dataset', 'sampler'):
        if key not in loader:
            raise UserError(f'{name} needs {name}.{key}.')
    _check_number(name, loader, 'num_workers', least=0)
    if not loader.get('batch_sampler'):
        _check_number(name, loader, 'batch_size', least=1)


def _check_number(name: str, settings: dict, key: str, least: int) -> None:
    value = settings.get(key, least)
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise UserError(f'Expected {name}.{key} to be an integer from {least}, got {value!r}.')


def _check_lengths(cfg: Config) -> None:
    settings = dict(cfg.get('train_cfg') or {})
    for key in ('max_epochs', 'max_iters', 'val_interval'):
        if isinstance(settings.get(key), float) and settings[key].is_integer():
            settings[key] = int(settings[key])  # as in train_cfg.max_iters=1e4
        _check_number('train_cfg', settings, key, least=1)


def _check_tensorboard(cfg: Config) -> None:
    backends = (cfg.get('visualizer') or {}).get('vis_backends') or []
    types = [str(backend.get('type')) for backend in backends if isinstance(backend, dict)]
    wanted = any(name.endswith('TensorboardVisBackend') for name in types)
    if wanted and find_spec('tensorboard') is None:
        raise UserError(
            'visualizer.vis_backends has TensorboardVisBackend, but the package tensorboard is not '
            'installed: pip install -c requirements/constraints.txt -e ".[tensorboard]" (without a '
            'checkout: pip install tensorboard).'
        )


def _check_frozen(cfg: Config) -> None:
    """Refuses factors of 0 on learning rates where schedules would raise the rates again."""
    schedules = cfg.get('param_scheduler') or []
    schedules = schedules if isinstance(schedules, (list, tuple)) else [schedules]
    if not any(s.get(key) for s in schedules if isinstance(s, dict) for key in _RATES):
        return
    wrapper = cfg.get('optim_wrapper') or {}
    keys = (wrapper.get('paramwise_cfg') or {}).get('custom_keys') or {}
    frozen = [name for name, settings in keys.items() if settings.get('lr_mult') == 0]
    constructor = wrapper.get('constructor', 'DefaultOptimWrapperConstructor')
    if frozen and constructor not in _FROZEN_BY:
        raise UserError(
            f'optim_wrapper.paramwise_cfg.custom_keys has lr_mult=0 for {", ".join(frozen)}, which '
            f'{constructor} does not freeze: a schedule with eta_min raises the rate. Set '
            f'optim_wrapper.constructor={_FROZEN_BY[0]!r}, which does, or freeze the blocks of a '
            'backbone with model.backbone.frozen_stages.'
        )


def _find(node, parts: list[str], path: str = '') -> Iterator[tuple[str, dict]]:
    """Yields the dicts at a place of the config, with their dotted keys."""
    if not parts:
        if isinstance(node, dict):
            yield path, node
        return
    first, rest = parts[0], parts[1:]
    if first != '*':
        children = {first: node.get(first)} if isinstance(node, (dict, Config)) else {}
    elif isinstance(node, (list, tuple)):
        children = dict(enumerate(node))
    else:  # a dict is the entry itself if it has a type
        children = node if isinstance(node, dict) and 'type' not in node else {}
    for key, child in children.items():
        yield from _find(child, rest, f'{path}.{key}'.removeprefix('.'))


def _check_arguments(path: str, settings: dict, kind: Registry) -> None:
    """Checks the type of an entry, and its arguments if the class lists all it takes."""
    settings = dict(settings)
    scope, name = settings.pop('_scope_', None), settings.pop('type', None)
    if kind is registry.PARAM_SCHEDULERS:
        settings.pop('convert_to_iter_based', None)
    if kind is registry.HOOKS:
        settings.pop('priority', None)  # MMEngine's Runner takes it
    if kind is registry.METRICS and 'metrics' in settings:
        kind, name = registry.EVALUATOR, name or 'Evaluator'
    if path == 'train_cfg' and name is None:
        name = 'EpochBasedTrainLoop' if settings.pop('by_epoch', None) else 'IterBasedTrainLoop'
    if not isinstance(name, str):
        return
    with kind.switch_scope_and_registry(scope) as current:
        cls = current.get(name)
        if cls is None:
            raise UserError(f'{path}: {describe_unknown(name, current)}')
    known, is_all = keywords(cls)
    for key in settings:
        if is_all and key not in known:
            raise UserError(
                f'{path}.{key}: {cls.__name__} has no argument {key!r}.{did_you_mean(key, known)}'
            )


def _check_hooks(cfg: Config) -> None:
    hooks = cfg.get('default_hooks') or {}
    for name, hook in hooks.items():
        if isinstance(hook, dict) and 'type' not in hook:
            others = {*hooks} - {name}
            raise UserError(f'default_hooks.{name} has no type.{did_you_mean(name, others)}')


@contextmanager
def _silence() -> Iterator[None]:
    """Hides messages and warnings: they come again when the Runner builds the model."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        logger.setLevel(level)


def check_model(cfg: Config) -> None:
    """Builds the model once, without its weights, to find mistakes before data are read.

    Args:
        cfg: The config.

    Raises:
        UserError: If a class or an argument of one is unknown, or a value is refused.
    """
    settings = deepcopy(cfg.model)
    if 'data_preprocessor' in cfg:
        settings.setdefault('data_preprocessor', deepcopy(cfg.data_preprocessor))
    import_task_library(cfg)
    scope = cfg.get('default_scope') or 'mmengine'
    try:
        with _silence(), DefaultScope.overwrite_default_scope(scope):
            MODELS.build(settings)
    except Exception as error:  # of any type
        if message := explain_build_error(error):
            raise UserError(f'model: {message}') from error
        raise
