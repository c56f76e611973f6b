"""Speed and memory: known answers, models that do not fit, and the tool."""

import json
import signal
from functools import partial

import pytest
import torch
from torch import nn

from mmwf.analysis import benchmark
from mmwf.analysis.benchmark import Settings, make_step, measure, peak_memory_mib, seconds_per_run
from mmwf.apis import benchmark as tool
from mmwf.apis.environment import UserError


def test_the_time_of_a_run_is_the_clocks_over_the_runs():
    ran = []
    times = iter([10.0, 16.0])
    assert seconds_per_run(lambda: ran.append(1), 3, clock=lambda: next(times)) == 2.0
    assert len(ran) == 3


def test_the_peak_of_memory_is_what_is_held_and_the_most_at_once():
    def step():
        torch.ones(80, 2**18)  # MiB, each gone before the next
        torch.ones(60, 2**18)

    step()
    assert peak_memory_mib(step, held=5 * 2**20) == pytest.approx(85, abs=4)


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
def test_a_step_runs_the_compiled_model_if_asked(compile, monkeypatch):
    model, compiled = Recorder(), Recorder()
    monkeypatch.setattr(torch, 'compile', lambda module: compiled)
    make_step(model, torch.randn(2, 3, 8, 8), Settings(compile=compile))()
    assert (len(model.seen), len(compiled.seen)) == ((0, 1) if compile else (1, 0))


def test_models_take_turns_and_the_median_counts(monkeypatch):
    asked = []

    class Worker:
        error = None

        def __init__(self, build, size, settings):
            self.name, self.results = build, iter([100.0, 0.5, 0.1, 0.4])

        def ask(self):
            asked.append(self.name)
            return next(self.results)

        def stop(self):
            asked.append(f'stop {self.name}')

    monkeypatch.setattr(benchmark, '_Worker', Worker)
    rows = measure({'one': 'a', 'two': 'b'}, 32, Settings(batch_size=2, turns=3))
    assert asked == ['a', 'b'] * 4 + ['stop a', 'stop b']
    assert rows[0] == dict(
        model='one',
        size=32,
        images_per_second=5.0,
        memory_per_image_mib=50.0,
        seconds=[0.5, 0.1, 0.4],
        speed_ratio=1.0,
        memory_ratio=1.0,
    )


def test_ratios_are_to_the_first_model():
    rows = [
        dict(images_per_second=4, memory_per_image_mib=100),
        dict(images_per_second=31, memory_per_image_mib=9),
        dict(error='out of memory'),
    ]
    benchmark.add_ratios(rows)
    assert (rows[1]['speed_ratio'], rows[1]['memory_ratio']) == (7.75, 0.09)
    assert rows[2] == dict(error='out of memory')
    rows = rows[::-1]
    del rows[1]['speed_ratio']
    benchmark.add_ratios(rows)
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
    assert '|     8 | large ' in tool.format_row(large) and 'out of' in tool.format_row(large)


def test_a_picture_without_anything_that_fits_is_drawn(tmp_path):
    tool.draw([dict(model='large', size=8, error='out of memory')], '', tmp_path / 'cost.png')
    assert (tmp_path / 'cost.png').exists()


def test_another_failure_is_no_row_but_an_error_that_says_where():
    with pytest.raises(RuntimeError, match=r'(?s)linear\.py.*shapes cannot be multiplied'):
        measure({'broken': partial(nn.Linear, 7, 4)}, 8, Settings())


@pytest.mark.parametrize(
    ('name', 'expected'),
    [
        ('resnet', 'Expected models out of weightformer-tiny, .*; got resnet'),
        ('timm:resnet', 'timm .* has no model resnet'),
        ('configs/classification/deit-tinny.py', 'Did you mean'),
        ('configs/_base_/datasets/digits.py', 'has no model with a backbone'),
    ],
)
def test_an_unknown_model_is_an_error_before_anything_runs(name, expected):
    with pytest.raises(UserError, match=expected):
        tool.main(['weightformer-tiny', name])


@pytest.mark.parametrize(
    'options', [['--turns', '0'], ['--batch-size', '0'], ['--sizes', '64', '0']]
)
def test_nothing_to_measure_is_an_error_before_anything_runs(options, monkeypatch):
    monkeypatch.setattr(tool, 'measure', None)
    with pytest.raises(UserError, match='at least 1, got .*0'):
        tool.main(['weightformer-tiny', *options])


def test_the_options_are_the_settings(tmp_path, monkeypatch):
    used = []
    monkeypatch.setattr(tool, 'measure', lambda models, size, settings: used.append(settings) or [])
    monkeypatch.setattr(tool, 'draw', lambda *args: None)
    options = (
        '--device auto --dtype bf16 --mode forward-backward --compile --batch-size 2 --turns 3'
    )
    tool.main([*options.split(), '--sizes', '32', '--out', str(tmp_path / 'cost')])
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    assert used == [Settings(device, 'bf16', 'forward-backward', True, batch_size=2, turns=3)]


def test_configs_of_one_name_are_measured_apart(tmp_path, monkeypatch):
    paths = [tmp_path / folder / 'mine.py' for folder in 'ab']
    for path in paths:
        path.parent.mkdir()
        path.write_text("model = dict(backbone=dict(type='mmwf.WeightFormer'))")
    measured = []
    monkeypatch.setattr(tool, 'measure', lambda models, *args: measured.extend(models) or [])
    monkeypatch.setattr(tool, 'draw', lambda *args: None)
    out = ['--sizes', '32', '--out', str(tmp_path / 'cost')]
    tool.main([*map(str, paths), *out])
    tool.main([str(paths[0]), *out])
    assert measured == [*map(str, paths), 'mine']


@pytest.mark.parametrize(
    ('name', 'tokens'),
    [
        ('weightformer-tiny', None),
        ('deit-tiny', 6 * 6 + 1),
        ('timm-plain:deit_tiny_patch16_224', 6 * 6 + 1),
        ('timm:deit_tiny_patch16_224', 6 * 6 + 1),  # last, as it is timm's default
    ],
)
@torch.no_grad()
def test_models_run_at_the_size_asked_for(name, tokens):
    model = tool.build_model(name, 96)
    out = model(torch.randn(1, 3, 96, 96))
    assert (out if isinstance(out, torch.Tensor) else out[-1]).shape == (1, 192)
    assert tokens is None or model.pos_embed.shape[1] == tokens
    if name.startswith('timm'):
        assert model.blocks[0].attn.fused_attn == (name.split(':')[0] == 'timm')


def test_the_tool_writes_results_machine_and_picture(tmp_path, capsys):
    out = tmp_path / 'cost'
    settings = ['--sizes', '32', '--turns', '1', '--mode', 'forward-backward']
    tool.main(['weightformer-tiny', *settings, '--out', str(out)])
    results = json.loads((tmp_path / 'cost.json').read_text())
    assert results['machine']['torch'] == torch.__version__ and results['machine']['device']
    import mmpretrain
    import timm

    assert results['machine']['timm'] == timm.__version__
    assert results['machine']['mmpretrain'] == mmpretrain.__version__
    assert results['settings']['mode'] == 'forward-backward' and 'date' in results
    (row,) = results['results']
    assert (row['model'], row['size'], row['speed_ratio']) == ('weightformer-tiny', 32, 1)
    # Weights and gradients of 5.8 M parameters lie in memory.
    assert row['memory_per_image_mib'] > 2 * 5.8e6 * 4 / 2**20
    assert '|    32 | weightformer-tiny' in capsys.readouterr().out
    assert (tmp_path / 'cost.png').stat().st_size > 10_000
