"""Hooks for MMEngine's Runner."""

from collections.abc import Sequence

from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import BaseLoop
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import fp16_compress_hook
from torch.nn.parallel import DistributedDataParallel

from mmwf.checkpoints import check_pretrained, is_pretrained, match_keys
from mmwf.errors import UserError
from mmwf.registry import HOOKS


def unwrap_model(model: nn.Module) -> nn.Module:
    """Returns the model inside wrappers for several processes and for test-time augmentation."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


def _is_untrained_downstream(runner) -> bool:
    model = getattr(runner.model, 'module', runner.model)
    backbone = getattr(model, 'backbone', None)
    is_downstream = runner.cfg.get('default_scope') in ('mmdet', 'mmseg')
    return is_downstream and backbone is not None and not is_pretrained(backbone.init_cfg)


@HOOKS.register_module()
class CheckpointMatchHook(Hook):
    """Logs how many weights of a loaded checkpoint match the model, and refuses a wrong checkpoint.

    MMEngine loads the weights that match and ignores the rest. With this hook, a checkpoint to
    resume must match exactly, and one to start from (``load_from``) must have the whole backbone.
    So must the checkpoint of a backbone's ``init_cfg=dict(type='Pretrained')``; that is checked for
    our own backbones and for those of mmpretrain, whose checkpoints have the keys of the model.

    Args:
        strict: Whether ``load_from`` must match exactly too, as in testing.
        unused: Prefixes of weights that a checkpoint may have although the model has none, such as
            ``('head.',)``.
    """

    def __init__(self, strict: bool = False, unused: Sequence[str] = ()):
        self.strict = strict
        self.unused = tuple(unused)

    def before_run(self, runner) -> None:
        """Checks the pretrained weights of mmpretrain's backbones before they are loaded.

        Our own backbones check theirs. Warns about a detector or segmentor without any.

        Raises:
            UserError: If a checkpoint does not fit.
        """
        if not isinstance(runner._train_loop, BaseLoop) or runner._load_from:
            return  # testing, or the weights will be replaced
        if _is_untrained_downstream(runner):
            runner.logger.warning(
                'THE BACKBONE STARTS FROM RANDOM WEIGHTS. The schedules of detection and '
                'segmentation expect an ImageNet backbone: do not compare the result with that of '
                'pretrained weights. Set model.backbone.init_cfg=dict(type="Pretrained", '
                'checkpoint=...) or load_from.'
            )
        for module in runner.model.modules():
            is_mmpretrains = type(module).__module__.startswith('mmpretrain.models.backbones')
            if is_mmpretrains and is_pretrained(getattr(module, 'init_cfg', None)):
                checkpoint = module.init_cfg['checkpoint']
                runner.logger.info(f'{checkpoint}: {check_pretrained(module)}.')

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Compares the weights of the checkpoint with those of the runner's model.

        Raises:
            UserError: If the checkpoint does not fit.
        """
        model = unwrap_model(runner.model)
        if runner._resume and not {'meta', 'message_hub'} <= checkpoint.keys():
            raise UserError(
                f'{runner._load_from} has only weights; a run can be resumed from a training '
                'checkpoint. To start a new run from these weights: --cfg-options '
                f'load_from={runner._load_from}, without --resume.'
            )
        state_dict = checkpoint.get('state_dict', checkpoint)
        state_dict = {key.removeprefix('module.'): value for key, value in state_dict.items()}
        state_dict = {k: v for k, v in state_dict.items() if not k.startswith(self.unused)}
        match = match_keys(model.state_dict(), state_dict)
        runner.logger.info(f'Checkpoint: {match}.')
        if self.strict or runner._resume:
            fits = match.is_exact
        else:
            lacking = match.missing + match.mismatched
            fits = match.num_matched and not any(key.startswith('backbone.') for key in lacking)
        if not fits:
            raise UserError(
                f'The checkpoint does not fit the {type(model).__name__} of the config: {match}. '
                'Expected a checkpoint trained with this config or, for load_from, at least one '
                'with the same backbone.'
            )


@HOOKS.register_module()
class Fp16CompressionHook(Hook):
    """All-reduces gradients in fp16, which halves the traffic, as detectron2's ViTDet does.

    Usage: ``custom_hooks=[dict(type='mmwf.Fp16CompressionHook')]``. The precision of parameters,
    optimizer and forward pass does not change.

    Note:
        Gradients below 6e-8 underflow in fp16. The loss scaling of fp16 training prevents that;
        bf16 training has none, so set ``optim_wrapper.dtype='float16'`` together with this hook.
    """

    def before_train(self, runner) -> None:
        """Registers the compression if the model is wrapped in DistributedDataParallel."""
        if isinstance(runner.model, DistributedDataParallel):
            runner.model.register_comm_hook(state=None, hook=fp16_compress_hook)
            runner.logger.info('Gradients are exchanged in fp16.')
        else:
            runner.logger.info('Fp16CompressionHook: one process, so no gradients are exchanged.')
