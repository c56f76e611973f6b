"""Hooks that analyse a model during training."""

from contextlib import ExitStack

import torch
from mmengine.dist import all_reduce
from mmengine.hooks import Hook

from mmwf.registry import HOOKS

from .weight_strength import dynamic_layers, record_weight_strength


@HOOKS.register_module()
class WeightStrengthHook(Hook):
    """Logs the strength of predicted relative to static weights (paper appendix A.1).

    For each dynamic layer it logs ``weight_strength/LAYER``, the mean of ||dW||_F / ||W0||_F over
    the images of one iteration on all processes.

    Enable it with ``default_hooks=dict(weight_strength=dict(type='mmwf.WeightStrengthHook'))``.
    Setting ``custom_hooks`` instead would replace those of the base config, such as the EMA of
    diffusion models.

    Args:
        interval: Iterations between measurements.

    Raises:
        ValueError: If the interval is not positive.
    """

    def __init__(self, interval: int = 100):
        if interval < 1:
            raise ValueError(f'Expected an interval of at least 1 iteration, got {interval}.')
        self.interval = interval
        self._recording = ExitStack()

    def before_train(self, runner) -> None:
        """Checks that the model has dynamic layers.

        Raises:
            ValueError: If the model has no dynamic layers.
        """
        if not dynamic_layers(runner.model):
            raise ValueError(
                'WeightStrengthHook expects a model with dynamic layers, but '
                f'{type(runner.model).__name__} has none. Remove the hook.'
            )

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        """Starts recording, once per interval."""
        if self.every_n_train_iters(runner, self.interval):
            recording = record_weight_strength(runner.model)
            self._strength = self._recording.enter_context(recording)

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        """Logs the recorded strengths.

        Raises:
            ValueError: If nothing was recorded, since the model is compiled.
        """
        if not self.every_n_train_iters(runner, self.interval):
            return
        self._recording.close()
        if not self._strength:
            raise ValueError(
                'WeightStrengthHook recorded no dynamic layers, since hooks do not run in a '
                'compiled model. Set compile=False in the config, or remove the hook.'
            )
        means = torch.stack([torch.cat(ratios).mean() for ratios in self._strength.values()])
        all_reduce(means, op='mean')
        for name, mean in zip(self._strength, means.tolist(), strict=True):
            name = name.removeprefix('module.')  # of DistributedDataParallel
            runner.message_hub.update_scalar(f'train/weight_strength/{name}', mean)
