"""What a run shows on the screen, and what goes to its log file only."""

import io
import logging
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers import run, run_tool, weights

from mmwf.datasets.toy.digits import write_digits
from mmwf.engine import screen
from mmwf.engine.screen import ScreenHook, is_for_screen
from mmwf.engine.summary import _count

ROOT = Path(__file__).parents[2]
CLASSIFIER = ROOT / 'configs/quickstart/weightformer-w64d8-p4_1xb64-20e_digits-32px.py'
HEADER = ('System environment:', 'Config:', 'Hooks will be executed', 'paramwise_options -- ')


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp('screen')
    write_digits(folder / 'digits')
    path = folder / 'toy.py'
    path.write_text(f"""
_base_ = {str(CLASSIFIER)!r}
model = dict(backbone=dict(arch=dict(embed_dims=16, depth=3, mlp_ratio=2)),
             head=dict(in_channels=16))
data = dict(data_root={str(folder / 'digits')!r})
train_dataloader = dict(batch_size=200, dataset=data)
val_dataloader = test_dataloader = dict(batch_size=100, dataset=data)
train_cfg = dict(max_epochs=1, val_interval=1)
default_hooks = dict(checkpoint=dict(interval=1), logger=dict(interval=3))
""")
    return path


@pytest.fixture(scope='module')
def trained(config, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('trained')
    return work_dir, run_tool('train.py', config, '--work-dir', work_dir)


def log_of(work_dir):
    (path,) = work_dir.glob('*/*.log')
    return path.read_text()


def test_training_shows_a_summary_the_first_iteration_and_progress(trained):
    work_dir, shown = trained
    lines = shown.splitlines()
    (first,) = (i for i, line in enumerate(lines) if 'Iteration 1 of 7: loss ' in line)
    assert first <= 12
    assert re.search(r'loss \d\.\d{4}, \d+\.\d s .* every 3 iterations', lines[first])
    summary = '\n'.join(lines[:first])
    count = sum(weight.numel() for weight in weights(work_dir / 'epoch_1.pth').values()) / 1e6
    for line in (
        f'model      ImageClassifier with WeightFormer, {count:.2f} M parameters',
        'weights    random',
        'train      1,437 images, 10 classes; 200 images per step',
        'val        360 images, 10 classes',
        'precision  fp32',
        'optimizer  AdamW, learning rate 0.002, weight decay 0.05',
        'schedule   1 epoch (7 iterations); CosineAnnealingLR, LinearLR',
    ):
        assert line in summary
    assert str(work_dir) in summary and '1 process' in summary
    progress = [line for line in lines if 'Epoch(train)' in line]
    assert len(progress) == 2 and all('eta: ' in line for line in progress)


def test_the_log_file_keeps_the_header(trained):
    work_dir, shown = trained
    log = log_of(work_dir)
    for text in HEADER:
        assert text in log and text not in shown
    assert 'Iteration 1 of 7: loss ' in log


def test_two_processes_show_what_one_does(trained, config, tmp_path):
    shown = run('bash', 'tools/dist_train.sh', config, 2, '--work-dir', tmp_path, '--device', 'cpu')
    assert shown.count('model      ImageClassifier') == 1
    assert shown.count('Iteration 1 of') == 1
    assert '400 images (200 x 2) per step' in shown and '2 processes' in shown


def test_a_test_shows_a_summary_and_its_end(trained, config, tmp_path):
    checkpoint = trained[0] / 'epoch_1.pth'
    shown = run_tool('test.py', config, checkpoint, '--work-dir', tmp_path)
    assert 'test       360 images, 10 classes' in shown
    assert f'weights    {checkpoint}' in shown
    assert 'Tested 4 of 4 batches, eta: 0:00:00.' in shown
    assert not any(text in shown for text in HEADER)
    assert len(shown.splitlines()) < 20


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_gets_a_progress_bar_in_one_line(monkeypatch):
    terminal, messages = Terminal(), []
    monkeypatch.setattr(sys, 'stdout', terminal)
    runner = SimpleNamespace(test_dataloader=range(3), logger=SimpleNamespace(info=messages.append))
    hook = ScreenHook()
    hook.before_test_epoch(runner)
    for i in range(3):
        hook.after_test_iter(runner, i)
    text = terminal.getvalue()
    assert text.count('\r') == 3 and ' 3/3, ' in text
    assert text.endswith('\n') and text.count('\n') == 1 and not messages


def test_without_a_terminal_a_line_comes_every_ten_seconds_and_at_the_end(monkeypatch):
    messages, now = [], iter(range(0, 70, 7))
    monkeypatch.setattr(sys, 'stdout', io.StringIO())
    monkeypatch.setattr(screen.time, 'perf_counter', lambda: next(now))
    runner = SimpleNamespace(test_dataloader=range(5), logger=SimpleNamespace(info=messages.append))
    hook = ScreenHook()
    hook.before_test_epoch(runner)
    for i in range(5):
        hook.after_test_iter(runner, i)
    assert messages == [
        'Tested 2 of 5 batches, eta: 0:00:21.',
        'Tested 4 of 5 batches, eta: 0:00:07.',
        'Tested 5 of 5 batches, eta: 0:00:00.',
    ]


@pytest.mark.parametrize(
    ('message', 'expected'),
    [
        ('\n' + '-' * 60 + '\nSystem environment:\n    sys.platform: linux', False),
        ('Config:\nmodel = dict()', False),
        ('paramwise_options -- backbone.norm.bias:weight_decay=0.0', False),
        ('backbone.norm.bias is skipped since its requires_grad=False', False),
        ('THE BACKBONE STARTS FROM RANDOM WEIGHTS.', True),
        ('Checkpoint: 12 of 12 keys matched.', True),
    ],
)
def test_only_the_header_is_hidden(message, expected):
    record = logging.LogRecord('mmengine', logging.WARNING, '', 0, message, (), None)
    assert is_for_screen(record) is expected


def test_units_have_their_plural():
    units = ('epoch', 'batch', 'process', 'image')
    plurals = ['2 epochs', '2 batches', '2 processes', '2 images']
    assert [_count(2, unit) for unit in units] == plurals
    assert _count(1, 'epoch') == '1 epoch'
