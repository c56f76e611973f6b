"""Hooks for MMEngine's Runner."""

from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import fp16_compress_hook
from torch.nn.parallel import DistributedDataParallel

from mmwf.checkpoint import match_keys
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
            ValueError: If it does not fit.
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
            raise ValueError(
                f'The checkpoint does not fit the {type(model).__name__} of the config: {match}. '
                'Expected a checkpoint that was trained with this config, or for load_from at '
                'least one with the same backbone.'
            )


@HOOKS.register_module()
class Fp16CompressionHook(Hook):
    """Sends gradients between processes in fp16, half the traffic, as detectron2's ViTDet does.

    To use it: ``custom_hooks=[dict(type='mmwf.Fp16CompressionHook')]``. Precision of parameters,
    optimizer and forward pass stay as they are.
    """

    def before_train(self, runner) -> None:
        """Registers the compression with the data-parallel model, if there is one."""
        if isinstance(runner.model, DistributedDataParallel):
            runner.model.register_comm_hook(state=None, hook=fp16_compress_hook)
            runner.logger.info('Gradients are exchanged in fp16.')
        else:
            runner.logger.info('Fp16CompressionHook: one process, so no gradients are exchanged.')
