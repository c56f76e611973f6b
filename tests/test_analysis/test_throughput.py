"""Throughput and memory, against known answers and for models that do not fit."""

import signal
from functools import partial

import pytest
import timm
import torch
from torch import nn

from mmwf.analysis import throughput
from mmwf.analysis.throughput import Settings, make_step, measure, peak_memory_mib, seconds_per_run
from mmwf.models import WeightFormer


def test_the_time_of_a_run_is_the_mean_over_the_runs():
    ran = []
    times = iter([10.0, 16.0])
    assert seconds_per_run(lambda: ran.append(1), 3, clock=lambda: next(times)) == 2.0
    assert len(ran) == 3


def test_peak_memory_is_the_memory_held_plus_the_largest_allocation():
    def step():
        torch.ones(80, 2**18)  # MiB, each gone before the next
        torch.ones(60, 2**18)

    step()
    assert peak_memory_mib(step, held=5 * 2**20) == pytest.approx(85, abs=0.01)


@pytest.mark.parametrize('dtype', ['fp32', 'bf16'])
def test_training_needs_less_memory_than_deit_and_checkpointing_a_third(dtype):
    settings = Settings(mode='forward-backward', dtype=dtype)
    images = torch.randn(8, 3, 224, 224)
    peaks = []
    for model in (
        timm.create_model('deit_tiny_patch16_224', num_classes=0),
        WeightFormer('tiny'),
        WeightFormer('tiny', with_cp=True),
    ):
        step = make_step(model, images, settings)
        step()
        peaks.append(peak_memory_mib(step, held=0))
    assert peaks[1] < peaks[0]
    assert peaks[2] < peaks[0] / 3


class Recorder(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 4)
        self.seen = []

    def forward(self, x):
        y = self.fc(x)
        self.seen.append((self.training, y.requires_grad, y.dtype))
        return (y,)


@pytest.mark.parametrize(
    ('mode', 'dtype', 'expected'),
    [
        ('forward', 'fp32', (False, False, torch.float32)),
        ('forward', 'bf16', (False, False, torch.bfloat16)),
        ('forward-backward', 'fp16', (True, True, torch.float16)),
    ],
)
def test_a_step_runs_in_its_mode_and_precision(mode, dtype, expected):
    model, gradients = Recorder(), []
    model.fc.weight.register_hook(gradients.append)
    step = make_step(model, torch.randn(2, 3, 8, 8), Settings(mode=mode, dtype=dtype))
    step()
    step()
    assert model.seen == [expected] * 2
    assert len(gradients) == (2 if mode == 'forward-backward' else 0)
    assert model.fc.weight.grad is None  # freed, so that memory does not depend on the past


@pytest.mark.parametrize('compile', [False, True])
def test_a_step_may_run_the_compiled_model(compile, monkeypatch):
    model, compiled = Recorder(), Recorder()
    monkeypatch.setattr(torch, 'compile', lambda module: compiled)
    make_step(model, torch.randn(2, 3, 8, 8), Settings(compile=compile))()
    assert (len(model.seen), len(compiled.seen)) == ((0, 1) if compile else (1, 0))


def test_models_take_turns_and_the_median_counts(monkeypatch):
    calls = []

    class Worker:
        error = None

        def __init__(self, build, size, settings):
            self.name, self.results = build, iter([100.0, 0.5, 0.1, 0.4])

        def next_result(self):
            calls.append(self.name)
            return next(self.results)

        def stop(self):
            calls.append(f'stop {self.name}')

    monkeypatch.setattr(throughput, '_Worker', Worker)
    rows = measure({'one': 'a', 'two': 'b'}, 32, Settings(batch_size=2, turns=3))
    assert calls == ['a', 'b'] * 4 + ['stop a', 'stop b']
    assert rows[0] == dict(
        model='one',
        size=32,
        images_per_second=5.0,
        memory_per_image_mib=50.0,
        seconds=[0.5, 0.1, 0.4],
        speed_ratio=1.0,
        memory_ratio=1.0,
    )


def test_only_models_with_the_prefix_are_compiled(monkeypatch):
    compiled = {}

    def record(jobs, size):
        compiled.update({name: settings.compile for name, (_, settings) in jobs.items()})
        return [dict(model=name, size=size, error='not run') for name in jobs]

    monkeypatch.setattr(throughput, 'measure_jobs', record)
    measure({'one': 'a', 'compiled:one': 'a'}, 32, Settings())
    assert compiled == {'one': False, 'compiled:one': True}


def test_ratios_are_medians_over_the_turns_to_the_first_model():
    rows = [
        dict(seconds=[8.0, 2.0, 3.0], memory_per_image_mib=100),
        dict(seconds=[1.0, 1.0, 1.0], memory_per_image_mib=9),
        dict(error='out of memory'),
    ]
    throughput.add_ratios(rows)
    assert (rows[1]['speed_ratio'], rows[1]['memory_ratio']) == (3.0, 0.09)
    assert rows[2] == dict(error='out of memory')
    rows = rows[::-1]
    del rows[1]['speed_ratio']
    throughput.add_ratios(rows)
    assert 'speed_ratio' not in rows[1]


def test_a_model_that_does_not_fit_gets_a_row_and_the_others_are_measured():
    models = {
        'killed': partial(signal.raise_signal, signal.SIGKILL),
        'large': partial(nn.Linear, 10**8, 10**8),
        'fits': partial(nn.Linear, 8, 4),
    }
    killed, large, fits = measure(models, 8, Settings(turns=2, seconds=0.01))
    assert killed == dict(model='killed', size=8, error='out of memory (killed by the system)')
    assert large == dict(model='large', size=8, error='out of memory')
    assert fits['images_per_second'] > 0 and len(fits['seconds']) == 2
    assert 'speed_ratio' not in fits


def test_another_failure_is_an_error_with_its_traceback():
    with pytest.raises(RuntimeError, match=r'(?s)linear\.py.*shapes cannot be multiplied'):
        measure({'broken': partial(nn.Linear, 7, 4)}, 8, Settings())
