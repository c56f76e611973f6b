"""Training of a tiny model in which everything is random: data order, augmentation, dropout."""

import random

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import Dataset

from mmwf.engine import ExactResumeHook
from mmwf.engine.signals import drop_iterators


class NoisyData(Dataset):
    """Eighteen inputs with noise from all generators."""

    metainfo = {}

    def __len__(self):
        return 18

    def __getitem__(self, index):
        noise = [random.random(), np.random.rand(), torch.rand(1).item()]
        return dict(inputs=torch.tensor([float(index), *noise]))


class NoisyModel(BaseModel):
    """A linear layer with dropout, batch normalization and noise from Python and NumPy."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(4, 4)
        self.norm = nn.BatchNorm1d(4)

    def forward(self, inputs, mode='tensor'):
        out = nn.functional.dropout(self.norm(self.linear(torch.stack(inputs) / 10)), 0.5)
        out = out + random.random() + np.random.rand()
        return dict(loss=out.square().mean()) if mode == 'loss' else out


class Killed(Exception):
    """The run is over before its end."""


class KillHook(Hook):
    """Ends the run after an iteration, without leaving anything behind."""

    priority = 'LOWEST'

    def __init__(self, iteration):
        self.iteration = iteration

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == self.iteration:
            drop_iterators(runner)  # else the workers end later
            raise Killed


def make_runner(work_dir, endless=False, workers=0, kill=None, hooks=(), **settings):
    """A run of 15 iterations (3 epochs of 5 batches) with a checkpoint every 2 iterations.

    Args:
        work_dir: Folder of logs and checkpoints.
        endless: Whether to count iterations instead of epochs.
        workers: Processes that load data.
        kill: The iteration after which the run is killed.
        hooks: More hooks.
        settings: More arguments of the Runner, or replacements.
    """
    train_cfg = dict(type='IterBasedTrainLoop', max_iters=15)
    sampler = dict(type='InfiniteSampler' if endless else 'DefaultSampler', shuffle=True)
    loader = dict(dataset=NoisyData(), sampler=sampler, batch_size=4, num_workers=workers)
    loader['persistent_workers'] = settings.pop('persistent', False)
    loader.update(settings.pop('loader', {}))
    hooks = [*hooks, *([KillHook(kill)] if kill else [])]
    return Runner(
        **{
            'model': NoisyModel(),
            'work_dir': str(work_dir),
            'train_dataloader': loader,
            'train_cfg': train_cfg if endless else dict(by_epoch=True, max_epochs=3),
            'optim_wrapper': dict(optimizer=dict(type='AdamW', lr=0.1)),
            'param_scheduler': dict(type='CosineAnnealingLR', T_max=15, by_epoch=False),
            'default_hooks': dict(
                exact_resume=ExactResumeHook(),
                checkpoint=dict(type='CheckpointHook', interval=2, by_epoch=False),
            ),
            'custom_hooks': hooks,
            'default_scope': 'mmengine',
            'experiment_name': str(work_dir),
            'randomness': dict(seed=0, diff_rank_seed=True),
            'log_level': 'ERROR',
            **settings,
        }
    )


def final_state(work_dir):
    """Returns everything that training changes, of the last checkpoint."""
    path = (work_dir / 'last_checkpoint').read_text()
    checkpoint = torch.load(path, weights_only=False)
    return {k: checkpoint.get(k) for k in ('state_dict', 'ema_state_dict', 'optimizer')}
