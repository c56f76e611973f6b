"""The summary of a run, in a few lines."""

import torch
from mmengine.dist import get_world_size
from mmengine.optim import OptimWrapperDict
from mmengine.runner import EpochBasedTrainLoop
from torch.utils.data import DataLoader

from mmwf.checkpoints import is_pretrained

from .hooks import unwrap_model


def _count(number: int, unit: str) -> str:
    """Returns a number with its unit, such as ``'1 process'`` or ``'2 processes'``."""
    plural = f'{unit}es' if unit.endswith(('s', 'tch')) else f'{unit}s'
    return f'{number:,} {unit if number == 1 else plural}'


def _wrappers(runner) -> list:
    wrapper = runner.optim_wrapper
    return list(wrapper.values()) if isinstance(wrapper, OptimWrapperDict) else [wrapper]


def _groups(runner) -> list[dict]:
    return [group for wrapper in _wrappers(runner) for group in wrapper.optimizer.param_groups]


def _model(runner, trained: int | None = None) -> str:
    model = unwrap_model(runner.model)
    parts = [type(model).__name__]
    if hasattr(model, 'backbone'):
        parts.append(type(model.backbone).__name__)
    total = sum(parameter.numel() for parameter in model.parameters())
    some = f', {trained / 1e6:.2f} M of them trained' if trained not in (None, total) else ''
    return f'{" with ".join(parts)}, {total / 1e6:.2f} M parameters{some}'


def _data(loader: DataLoader) -> str:
    dataset = loader.dataset
    classes = (getattr(dataset, 'metainfo', None) or {}).get('classes')
    classes = f', {_count(len(classes), "class")}' if isinstance(classes, (list, tuple)) else ''
    return f'{_count(len(dataset), "image")}{classes}'


def _device(runner) -> str:
    device = next(runner.model.parameters()).device
    if device.type == 'cuda':
        name = torch.cuda.get_device_name(device)
    else:
        name = f'{device.type.upper()}, {_count(torch.get_num_threads(), "thread")}'
    return f'{name}; {_count(get_world_size(), "process")}'


def _precision(runner) -> str:
    dtypes = [getattr(wrapper, 'cast_dtype', None) for wrapper in _wrappers(runner)]
    names = {torch.bfloat16: 'bf16 (mixed)', torch.float16: 'fp16 (mixed)', None: 'fp32'}
    shown = ', '.join(dict.fromkeys(names.get(dtype, str(dtype)) for dtype in dtypes))
    is_tf32 = torch.cuda.is_available() and torch.get_float32_matmul_precision() != 'highest'
    return f'{shown}; fp32 products in TF32' if is_tf32 else shown


def _optimizer(runner) -> str:
    groups = _groups(runner)
    names = ', '.join(type(wrapper.optimizer).__name__ for wrapper in _wrappers(runner))
    rates = [group.get('initial_lr', group['lr']) for group in groups]
    rate = f'{max(rates):g}' if min(rates) == max(rates) else f'{min(rates):g} to {max(rates):g}'
    decay = max(group.get('weight_decay') or 0 for group in groups)
    return f'{names}, learning rate {rate}, weight decay {decay:g}'


def _batches(runner) -> str:
    loader = runner.train_dataloader
    size = getattr(loader.batch_sampler, 'batch_size', loader.batch_size)
    counts = getattr(_wrappers(runner)[0], '_accumulative_counts', 1)
    if size is None:
        return 'batches of varying size'
    factors = [f'{size}', *(f'{n}' for n in (get_world_size(), counts) if n > 1)]
    total = size * get_world_size() * counts
    product = f' ({" x ".join(factors)})' if len(factors) > 1 else ''
    return f'{_count(total, "image")}{product} per step'


def _schedule(runner) -> str:
    length = _count(runner.max_iters, 'iteration')
    if isinstance(runner.train_loop, EpochBasedTrainLoop):
        length = f'{_count(runner.max_epochs, "epoch")} ({length})'
    schedulers = runner.param_schedulers or []
    if isinstance(schedulers, dict):
        schedulers = [each for group in schedulers.values() for each in group]
    names = ', '.join(dict.fromkeys(type(scheduler).__name__ for scheduler in schedulers))
    return f'{length}; {names or "constant learning rate"}'


def _weights(runner) -> str:
    if runner._load_from:
        return f'{"resumed from " if runner._resume else ""}{runner._load_from}'
    init_cfg = getattr(getattr(unwrap_model(runner.model), 'backbone', None), 'init_cfg', None)
    if is_pretrained(init_cfg):
        return f'backbone from {init_cfg["checkpoint"]}'
    return 'random'


def _join(title: str, lines: dict[str, str]) -> str:
    return title + ''.join(f'\n  {name:<10} {text}' for name, text in lines.items())


def describe_training(runner) -> str:
    """Returns the summary of a training that is about to start.

    Args:
        runner: MMEngine's Runner, whose loops, optimizer and schedules are built.
    """
    trained = sum(p.numel() for g in _groups(runner) for p in g['params'] if p.requires_grad)
    loop = runner.val_loop
    lines = dict(
        model=_model(runner, trained),
        weights=_weights(runner),
        train=f'{_data(runner.train_dataloader)}; {_batches(runner)}',
        val=_data(loop.dataloader) if loop else 'none',
        device=_device(runner),
        precision=_precision(runner),
        optimizer=_optimizer(runner),
        schedule=_schedule(runner),
        log=f'{runner.log_dir}/{runner.timestamp}.log',
    )
    return _join(f'Training in {runner.work_dir}:', lines)


def describe_testing(runner) -> str:
    """Returns the summary of a test that is about to start.

    Args:
        runner: MMEngine's Runner, whose test loop is built.
    """
    lines = dict(
        model=_model(runner),
        weights=_weights(runner),
        test=_data(runner.test_dataloader),
        device=_device(runner),
        log=f'{runner.log_dir}/{runner.timestamp}.log',
    )
    return _join('Testing:', lines)
