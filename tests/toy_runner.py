"""A run of a second with MMEngine's Runner and our hooks, to be interrupted."""

import torch
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn


class Model(BaseModel):
    """Learns one number; ``size`` more numbers make its checkpoints large."""

    def __init__(self, size=0):
        super().__init__()
        self.linear = nn.Linear(1, 1)
        self.register_buffer('ballast', torch.arange(float(size)))

    def forward(self, inputs, mode='tensor'):
        loss = self.linear(torch.stack(inputs)).square().mean()
        return dict(loss=loss) if mode == 'loss' else [loss]


class Score(BaseMetric):
    """Returns the next of ``scores`` at each validation."""

    def __init__(self, scores):
        super().__init__(prefix='toy')
        self.scores = list(scores)

    def process(self, data_batch, data_samples):
        self.results.append(0)  # must not be empty

    def compute_metrics(self, results):
        return dict(accuracy=self.scores.pop(0))


def make_runner(work_dir, max_iters, scores=None, size=0, resume=False, **settings):
    """Builds a run that saves a checkpoint after each iteration and keeps one.

    Args:
        work_dir: Its folder.
        max_iters: Its length.
        scores: Accuracy after each iteration, for ``save_best``.
        size: Additional numbers in the checkpoint.
        resume: As in the Runner.
        settings: More settings of the checkpoint hook.
    """
    images = [dict(inputs=torch.ones(1)), dict(inputs=torch.zeros(1))]
    sampler = dict(type='DefaultSampler', shuffle=False)
    loader = dict(dataset=images, batch_size=2, sampler=sampler)
    endless = dict(type='InfiniteSampler', shuffle=False)
    hook = dict(type='mmwf.CheckpointHook', by_epoch=False, interval=1, max_keep_ckpts=1)
    validation = {}
    if scores is not None:
        validation = dict(val_dataloader=loader, val_cfg={}, val_evaluator=Evaluator(Score(scores)))
        hook['save_best'] = 'toy/accuracy'
    return Runner(
        model=Model(size),
        work_dir=str(work_dir),
        train_dataloader=dict(loader, sampler=endless),
        train_cfg=dict(by_epoch=False, max_iters=max_iters, val_interval=1),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.1)),
        default_hooks=dict(
            checkpoint=dict(hook, **settings), work_dir=dict(type='mmwf.WorkDirHook')
        ),
        resume=resume,
        experiment_name=f'{work_dir}-{max_iters}-{resume}',
        log_level='WARNING',
        **validation,
    )
