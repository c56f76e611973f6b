"""The share of time spent waiting for data: in the log, and the warning."""

import json
import os
import re
from pathlib import Path

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from torch import nn
from torch.utils.data import DataLoader

from mmwf.engine import DataWaitHook


class Clock:
    """A clock that only moves when somebody sleeps, so that other load does not matter."""

    now = 0.0

    def sleep(self, seconds):
        self.now += seconds

    def perf_counter(self):
        return self.now


clock = Clock()


@pytest.fixture(autouse=True)
def use_clock(monkeypatch):
    monkeypatch.setattr('mmwf.engine.data_wait.time', clock)


class Data(torch.utils.data.Dataset):
    """Images that take ``seconds`` to load, in this process."""

    def __init__(self, length, seconds):
        self.length, self.seconds = length, seconds

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        clock.sleep(self.seconds)
        return dict(inputs=torch.ones(1))


class Model(BaseModel):
    """A model whose training step takes ``seconds``."""

    def __init__(self, seconds):
        super().__init__()
        self.layer, self.seconds = nn.Linear(1, 1), seconds

    def forward(self, inputs, mode='tensor'):
        clock.sleep(self.seconds)
        return dict(loss=self.layer(inputs).sum()) if mode == 'loss' else [BaseDataElement()]


class SlowMetric(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        clock.sleep(0.3)
        return {}


class SlowSave(Hook):
    priority = 'VERY_LOW'  # as CheckpointHook

    def after_train_iter(self, runner, *args, **kwargs):
        clock.sleep(0.02)


def make_runner(tmp_path, iterations, loading, training, **kwargs):
    """Builds a runner; ``loading`` and ``training`` are seconds per iteration."""
    settings = dict(
        work_dir=str(tmp_path),
        train_dataloader=DataLoader(Data(iterations, loading)),
        train_cfg=dict(by_epoch=False, max_iters=iterations),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        default_hooks=dict(
            logger=dict(type='LoggerHook', interval=1),
            data_wait=dict(type='mmwf.DataWaitHook', warmup=10),
        ),
        default_scope='mmengine',
        experiment_name=tmp_path.name,
    )
    return Runner(Model(training), **{**settings, **kwargs})


def train(runner):
    """Trains; returns the records of the JSON log, and the text log."""
    runner.train()
    folder = Path(runner.work_dir) / runner.timestamp
    lines = (folder / 'vis_data/scalars.json').read_text().splitlines()
    records = [json.loads(line) for line in lines]
    return records, (folder / f'{runner.timestamp}.log').read_text()


@pytest.mark.parametrize(
    'train_cfg', [dict(by_epoch=False, max_iters=12), dict(by_epoch=True, max_epochs=1)]
)
def test_the_share_is_logged(tmp_path, train_cfg):
    records, text = train(make_runner(tmp_path, 12, 0.03, 0.01, train_cfg=train_cfg))
    assert 'data_wait' not in records[0]  # logged before the first iteration ends
    share = records[-1]['data_wait']
    assert share == pytest.approx(0.75, abs=1e-4)
    assert f'data_wait: {share:.4f}' in text


def test_the_share_is_that_of_the_iterations_the_logger_smooths_over(tmp_path):
    class LastSlow(Data):
        def __getitem__(self, index):
            clock.sleep(0.1 * (index >= 8))
            return super().__getitem__(index)

    records, _ = train(
        make_runner(
            tmp_path,
            14,
            0,
            0.01,
            train_dataloader=DataLoader(LastSlow(14, 0)),
            log_processor=dict(window_size=4, by_epoch=False),
        )
    )
    shares = [record['data_wait'] for record in records[8:]]  # each without its own iteration
    expected = [0, 0.1 / 0.14, 0.2 / 0.24, 0.3 / 0.34, 0.4 / 0.44, 0.4 / 0.44]
    assert shares == pytest.approx(expected, abs=1e-4)


def test_saving_and_validation_are_not_waiting_for_data(tmp_path):
    runner = make_runner(
        tmp_path,
        8,
        0,
        0.01,
        custom_hooks=[SlowSave()],
        train_cfg=dict(by_epoch=False, max_iters=8, val_interval=2),
        val_dataloader=DataLoader(Data(1, 0)),
        val_evaluator=[SlowMetric()],
        val_cfg=dict(),
    )
    records, _ = train(runner)
    last = [record for record in records if 'loss' in record][-1]
    assert last['data_wait'] == 0


def test_slow_data_are_reported_once_with_what_to_do(tmp_path):
    _, text = train(make_runner(tmp_path, 40, 0.01, 0.005))
    (message,) = re.findall('TRAINING WAITS FOR DATA (.*)', text)
    share, _, help_ = message.partition(' OF THE TIME. ')
    assert share == '67%'
    assert 'train_dataloader.num_workers (now 0 per process' in help_
    assert f'{os.cpu_count()} cores' in help_


@pytest.mark.parametrize(
    ('iterations', 'loading', 'training'), [(19, 0.005, 0), (25, 0, 0.02)], ids=['short', 'fast']
)
def test_short_runs_and_fast_data_are_not_reported(tmp_path, iterations, loading, training):
    _, text = train(make_runner(tmp_path, iterations, loading, training))
    assert 'WAITS FOR DATA' not in text


def test_the_warm_up_does_not_count(tmp_path):
    class FirstSlow(Data):
        def __getitem__(self, index):
            clock.sleep(0.2 * (index < 3))
            return super().__getitem__(index)

    _, text = train(
        make_runner(tmp_path, 22, 0, 0.01, train_dataloader=DataLoader(FirstSlow(22, 0)))
    )
    assert 'WAITS FOR DATA' not in text


def test_a_resumed_run_starts_anew(tmp_path):
    hooks = dict(checkpoint=dict(type='CheckpointHook', interval=15, by_epoch=False))
    hooks.update(
        logger=dict(type='LoggerHook', interval=1),
        data_wait=dict(type='mmwf.DataWaitHook', warmup=10),
    )
    runs = [
        make_runner(
            tmp_path,
            max_iters,
            0.02,
            0.01,
            default_hooks=hooks,
            resume=resume,
            experiment_name=f'{tmp_path.name}-{max_iters}',
        )
        for max_iters, resume in ((15, False), (30, True))
    ]
    runs[0].train()
    _, text = train(runs[1])
    assert 'resumed epoch: 0, iter: 15' in text
    assert 'WAITS FOR DATA' not in text  # 30 iterations in all, but 15 in this run


def test_other_processes_neither_measure_nor_log(monkeypatch, tmp_path):
    monkeypatch.setattr('mmengine.dist.utils.is_main_process', lambda *args: False)
    runner = make_runner(tmp_path, 25, 0.005, 0)
    runner.train()
    assert 'train/data_wait' not in runner.message_hub.log_scalars


@pytest.mark.parametrize('setting', [dict(limit=1.5), dict(limit=-0.1), dict(warmup=0)])
def test_a_wrong_setting_is_an_error(setting):
    with pytest.raises(ValueError, match='Expected a (limit from 0 to 1|warmup of at least 1)'):
        DataWaitHook(**setting)
