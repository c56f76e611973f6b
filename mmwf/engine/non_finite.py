"""Losses and gradients that are not finite."""

from collections.abc import Iterator

import torch
from mmengine.dist import all_gather_object, all_reduce, get_rank
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from mmwf.errors import UserError
from mmwf.registry import HOOKS

from .hooks import unwrap_model


def _tensors(value) -> Iterator[Tensor]:
    """Yields the floating-point tensors in nested lists, tuples and dicts."""
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield value
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)


def is_finite(value) -> bool:
    """Whether all floating-point tensors in nested lists, tuples and dicts are finite."""
    tensors = [tensor for tensor in _tensors(value) if tensor.numel()]
    if not tensors:
        return True
    # Norms take a sixth of the time of looking at each element, but large values overflow.
    norms = torch._foreach_norm([tensor.detach() for tensor in tensors])
    if torch.stack([norm.float() for norm in norms]).isfinite().all():
        return True
    return all(bool(tensor.isfinite().all()) for tensor in tensors)


def first_non_finite(model: nn.Module, data_batch) -> str:
    """Runs a batch through the model and names what is not finite first.

    Args:
        model: Not wrapped for several processes.
        data_batch: As the model's ``train_step`` gets it.
    """
    weights = [name for name, weight in model.named_parameters() if not is_finite(weight)]
    if weights:
        return f'the weights {", ".join(weights[:3])}'
    found = []

    def check(name):
        def hook(module, args, output):
            if not found and not is_finite(output):
                found.append(f'the output of {name} ({type(module).__name__})')

        return hook

    with torch.no_grad():
        data = model.data_preprocessor(data_batch, True)
        if not is_finite(data.get('inputs') if isinstance(data, dict) else data):
            return 'the input'
        handles = [
            module.register_forward_hook(check(name or 'the model'))
            for name, module in model.named_modules()
        ]
        try:
            if isinstance(data, dict):
                model(**data, mode='loss')
            else:
                model(*data, mode='loss')
        finally:
            for handle in handles:
                handle.remove()
    return found[0] if found else 'only the gradients'


def batch_files(data_batch) -> list[str]:
    """Returns the files of a batch, as far as its data samples know them."""
    samples = data_batch.get('data_samples') if isinstance(data_batch, dict) else None
    files = (getattr(sample, 'img_path', None) for sample in samples or ())
    return [str(file) for file in files if file]


@HOOKS.register_module()
class NonFiniteHook(Hook):
    """Skips steps with non-finite losses or gradients, and stops a run that has only such steps.

    All processes see the same: gradients are checked after they have been averaged, and losses of
    any process count for all. In a skipped step, neither weights nor states of the optimizer nor
    running statistics of batch normalization change. Before a checkpoint is written, its weights
    are checked.

    Args:
        patience: The run stops after as many such iterations in a row. With fp16, which finds its
            loss scale by halving it until gradients do not overflow, they can be normal: the
            default allows for one more than the 16 halvings from the initial scale to 1, and some.

    Note:
        MMEngine reads the loss, and the gradients' norm if they are clipped, in every iteration.
        If they are not clipped, this hook computes it.

    Raises:
        ValueError: If the patience is not positive.
    """

    priority = 'VERY_HIGH'

    def __init__(self, patience: int = 20):
        if patience < 1:
            raise ValueError(f'Expected a patience of at least 1 iteration, got {patience}.')
        self.patience = patience

    def before_train(self, runner) -> None:
        """Watches the optimizer and the running statistics."""
        wrapper = runner.optim_wrapper
        wrappers = wrapper.values() if isinstance(wrapper, OptimWrapperDict) else [wrapper]
        for each in wrappers:
            self._watch(each)
        self._statistics = [
            buffer
            for module in unwrap_model(runner.model).modules()
            if isinstance(module, _NormBase)
            for buffer in (module.running_mean, module.running_var)
            if buffer is not None
        ]
        self._saved = [buffer.clone() for buffer in self._statistics]
        self._in_a_row = 0

    def _watch(self, wrapper: OptimWrapper) -> None:
        def before_step(optimizer, args, kwargs) -> None:
            self._stepped = True
            if not _has_finite_gradients(wrapper):
                self._skipped = True
                optimizer.zero_grad()  # without gradients, parameters and their states stay

        wrapper.optimizer.register_step_pre_hook(before_step)

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        """Keeps the running statistics."""
        self._stepped = self._skipped = False
        if self._statistics:
            torch._foreach_copy_(self._saved, self._statistics)

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        """Counts iterations that are not finite.

        Raises:
            UserError: After ``patience`` of them in a row.
        """
        wrapper = runner.optim_wrapper
        finite_loss = is_finite(outputs)
        due = isinstance(wrapper, OptimWrapper) and wrapper.should_update()
        skipped = self._skipped or (due and not self._stepped)  # the latter by fp16's loss scaler
        flag = torch.tensor([not finite_loss], dtype=torch.int32, device=_device(runner.model))
        all_reduce(flag, op='max')
        if not (flag.item() or skipped):
            self._in_a_row = 0
            return
        self._in_a_row += 1
        if self._statistics:
            torch._foreach_copy_(self._statistics, self._saved)
        runner.logger.warning(
            f'Iteration {runner.iter + 1}: the {"loss is" if flag.item() else "gradients are"} not '
            f'finite{"; the step is skipped" if skipped else ""} ({self._in_a_row} in a row, '
            f'{self.patience} end the run).'
        )
        if self._in_a_row >= self.patience:
            self._stop(runner, data_batch, finite_loss)

    def _stop(self, runner, data_batch, finite_loss: bool) -> None:
        # All processes run their batch again: some layers wait for each other.
        origin = first_non_finite(unwrap_model(runner.model), data_batch)
        files = batch_files(data_batch)
        runner.logger.error(f'Process {get_rank()}, the last batch: {", ".join(files)}')
        shown = ', '.join(files[:4]) + (
            f' and {len(files) - 4} more, see the log' * (len(files) > 4)
        )
        own = f'process {get_rank()}: first {origin}; batch: {shown or "of unknown files"}'
        reports = all_gather_object((finite_loss, own))
        bad = [report for finite, report in reports if not finite] or [r for _, r in reports]
        raise UserError(
            f'Training has diverged: in the last {self.patience} iterations, up to '
            f'{runner.iter + 1}, losses or gradients were not finite ({"; ".join(bad)}). '
            'What may help: a lower learning rate, a longer warm-up, clipping of gradients '
            '(optim_wrapper.clip_grad), bf16 or fp32 in place of fp16, and a look at these files. '
            'Earlier checkpoints are unchanged.'
        )

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Checks the weights.

        Raises:
            UserError: If some are not finite.
        """
        for key in ('state_dict', 'ema_state_dict'):
            bad = [k for k, v in checkpoint.get(key, {}).items() if not is_finite(v)]
            if bad:
                raise UserError(
                    f'Iteration {runner.iter}: weights are not finite, so no checkpoint is '
                    f'written: {", ".join(bad[:3])}{" ..." if bad[3:] else ""} ({key}).'
                )


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def _has_finite_gradients(wrapper: OptimWrapper) -> bool:
    if wrapper.clip_grad_kwargs and wrapper.grad_name == 'grad_norm':
        # Clipping has just computed their norm.
        norm = MessageHub.get_current_instance().get_scalar('train/grad_norm').current()
        return bool(torch.isfinite(torch.tensor(norm)))
    groups = wrapper.optimizer.param_groups
    return is_finite([p.grad for group in groups for p in group['params'] if p.grad is not None])
