"""Hooks for MMEngine's Runner."""

from contextlib import ExitStack

import torch
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import set_random_seed
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import fp16_compress_hook
from torch.nn.parallel import DistributedDataParallel

from mmwf.analysis.weight_strength import dynamic_layers, record_weight_strength
from mmwf.checkpoint import match_keys
from mmwf.errors import UserError
from mmwf.registry import HOOKS


@HOOKS.register_module()
class CheckpointMatchHook(Hook):
    """Says how many weights of a loaded checkpoint fit the model, and stops on a wrong file.

    MMEngine loads what fits and goes on. Here, a checkpoint that is resumed or tested must fit as a
    whole; one to start from (``load_from``) must have the whole backbone.

    Args:
        strict: Whether ``load_from`` must fit as a whole too, as in testing.
    """

    def __init__(self, strict: bool = False):
        self.strict = strict

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Compares the checkpoint with the runner's model.

        Raises:
            UserError: If it does not fit.
        """
        model = runner.model
        while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
            model = model.module
        state_dict = checkpoint.get('state_dict', checkpoint)
        state_dict = {key.removeprefix('module.'): value for key, value in state_dict.items()}
        match = match_keys(model.state_dict(), state_dict)
        runner.logger.info(f'Checkpoint: {match}.')
        if self.strict or runner._resume:
            fits = not (match.missing or match.unexpected or match.mismatched)
        else:
            lacking = match.missing + match.mismatched
            fits = match.num_matched and not any(key.startswith('backbone.') for key in lacking)
        if not fits:
            raise UserError(
                f'The checkpoint does not fit the {type(model).__name__} of the config: {match}. '
                'Expected a checkpoint that was trained with this config, or for load_from at '
                'least one with the same backbone.'
            )


@HOOKS.register_module()
class Fp16CompressionHook(Hook):
    """Sends gradients between processes in fp16, half the traffic, as detectron2's ViTDet does.

    To use it: ``custom_hooks=[dict(type='mmwf.Fp16CompressionHook')]``. Precision of parameters,
    optimizer and forward pass stay as they are.

    Note:
        fp16 ends at 6e-8. detectron2 computes in fp16 too, so its loss scaling lifts the gradients;
        bf16 has none: set ``optim_wrapper.dtype='float16'`` with this hook.
    """

    def before_train(self, runner) -> None:
        """Registers the compression with the data-parallel model, if there is one."""
        if isinstance(runner.model, DistributedDataParallel):
            runner.model.register_comm_hook(state=None, hook=fp16_compress_hook)
            runner.logger.info('Gradients are exchanged in fp16.')
        else:
            runner.logger.info('Fp16CompressionHook: one process, so no gradients are exchanged.')


@HOOKS.register_module()
class ResumeSeedHook(Hook):
    """Gives a resumed run random numbers of its own.

    MMEngine does not save the state of the generators: with the same seed, a resumed run would draw
    the numbers of the first iterations again.
    """

    def before_train(self, runner) -> None:
        """Makes the seed depend on the iteration, if that is not the first."""
        if runner.iter:
            set_random_seed(runner.seed + runner.iter)


@HOOKS.register_module()
class WeightStrengthHook(Hook):
    """Logs how strong the predicted weights are beside the static ones (paper appendix A.1).

    To use it: ``default_hooks=dict(weight_strength=dict(type='mmwf.WeightStrengthHook'))``; a list
    of ``custom_hooks`` would replace those of the base, such as the generators' EMA. The log gets,
    for each dynamic layer, ``weight_strength/LAYER``: the mean of ||dW||_F / ||W0||_F over the
    images that all processes see in one iteration. Between these iterations it costs nothing.

    Args:
        interval: Measure in every so many iterations.

    Raises:
        ValueError: If the interval is not positive.
    """

    def __init__(self, interval: int = 100):
        if interval < 1:
            raise ValueError(f'Expected an interval of at least 1 iteration, got {interval}.')
        self.interval = interval
        self._recording = ExitStack()

    def before_train(self, runner) -> None:
        """Checks that there is something to measure.

        Raises:
            ValueError: If the model has no dynamic layers.
        """
        if not dynamic_layers(runner.model):
            raise ValueError(
                'WeightStrengthHook expects a model with dynamic layers, and '
                f'{type(runner.model).__name__} has none. Remove the hook.'
            )

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        """Starts to record, in the iterations that count."""
        if self.every_n_train_iters(runner, self.interval):
            recording = record_weight_strength(runner.model)
            self._strength = self._recording.enter_context(recording)

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        """Hands what was recorded to the log.

        Raises:
            ValueError: If no dynamic layer was seen at work.
        """
        if not self.every_n_train_iters(runner, self.interval):
            return
        self._recording.close()
        if not self._strength:
            raise ValueError(
                'WeightStrengthHook saw no dynamic layer at work. A compiled model hides them: set '
                'compile=False in the config, or remove the hook.'
            )
        means = torch.stack([torch.cat(ratios).mean() for ratios in self._strength.values()])
        all_reduce(means, op='mean')
        for name, mean in zip(self._strength, means.tolist(), strict=True):
            name = name.removeprefix('module.')  # of a data-parallel model
            runner.message_hub.update_scalar(f'train/weight_strength/{name}', mean)
