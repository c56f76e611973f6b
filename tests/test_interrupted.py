"""Two processes of which one gets a signal, is killed, or stops."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import ROOT, make_once, run
from mmengine.config import Config

from mmwf.analysis.kill_test import Training, children, find_differences, kill
from mmwf.datasets.toy.digits import write_digits

CLASSIFIER = ROOT / 'configs/quickstart/weightformer-w64d8-p4_1xb64-20e_digits-32px.py'
pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    """The classifier of the quick start at toy size, with a checkpoint every 4 iterations."""

    def make(folder):
        write_digits(folder / 'data')
        cfg = Config.fromfile(CLASSIFIER)
        arch = dict(embed_dims=8, depth=2, mlp_ratio=2)
        cfg.model.backbone.update(arch=arch, patch_size=8, drop_path_rate=0.1)
        cfg.model.head.in_channels = 8
        cfg.train_cfg.update(max_epochs=4, val_interval=4)
        for name in ('train', 'val', 'test'):
            cfg[f'{name}_dataloader'].dataset.data_root = str(folder / 'data')
        cfg.default_hooks.checkpoint.update(by_epoch=False, interval=4)
        cfg.default_hooks.stall = dict(type='mmwf.StallHook', timeout=15)
        cfg.dump(folder / 'toy.py')

    return make_once(tmp_path_factory, 'test_interrupted_config', make) / 'toy.py'


@pytest.fixture(scope='module')
def whole(config, tmp_path_factory):
    """Work dir of the uninterrupted run."""

    def train(work_dir):
        run('bash', 'tools/dist_train.sh', config, 2, '--work-dir', work_dir, '--device', 'cpu')

    return make_once(tmp_path_factory, 'test_interrupted_whole', train)


@pytest.fixture
def start(config, tmp_path):
    """Starts the run, waits for its first checkpoint, and returns it and its two processes."""
    started = []

    def start(**env):
        command = ['bash', 'tools/dist_train.sh', config, '2', '--work-dir', tmp_path / 'out']
        env = {**os.environ, 'PYTHON': sys.executable, 'PYTHONPATH': str(ROOT), **env}
        with (tmp_path / 'log').open('w') as log:
            process = subprocess.Popen(
                [*map(str, command), '--device', 'cpu'], cwd=ROOT, env=env, stdout=log, stderr=log
            )
        started.append(process)
        deadline = time.monotonic() + 120
        while not (tmp_path / 'out/last_checkpoint').exists():
            assert process.poll() is None and time.monotonic() < deadline, read(tmp_path)
            time.sleep(0.1)
        ranks = {rank(pid): pid for pid in children(process.pid) if rank(pid) is not None}
        return process, ranks

    yield start
    for process in started:
        kill(process)


def rank(pid):
    """The rank of a process that torchrun has started, else None."""
    variables = Path(f'/proc/{pid}/environ').read_bytes().split(b'\0')
    ranks = [int(v.removeprefix(b'RANK=')) for v in variables if v.startswith(b'RANK=')]
    return ranks[0] if ranks else None


def read(tmp_path):
    return (tmp_path / 'log').read_text()[-4000:]


def assert_identical(first, second):
    states = [Training(work_dir, [], []).final_state() for work_dir in (first, second)]
    assert find_differences(*states) == []


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_to_the_launcher_saves_and_the_run_resumes_exactly(
    start, config, whole, tmp_path, number
):
    process, _ = start()
    process.send_signal(number)
    assert process.wait(timeout=60) == (130 if number == signal.SIGINT else 75), read(tmp_path)
    assert 'To continue, run the same command with --resume' in (tmp_path / 'log').read_text()
    out = '--work-dir', tmp_path / 'out'
    run('bash', 'tools/dist_train.sh', config, 2, *out, '--device', 'cpu', '--resume')
    assert_identical(whole, tmp_path / 'out')


def test_a_signal_to_one_process_stops_both_after_the_same_iteration(start, tmp_path):
    process, ranks = start()
    os.kill(ranks[1], signal.SIGTERM)
    assert process.wait(timeout=60) == 1  # torchrun's own; see the exit codes of its processes
    assert read(tmp_path).count('exitcode  : 75') == 2, read(tmp_path)


@pytest.mark.parametrize(
    ('number', 'limit'), [(signal.SIGKILL, 120), (signal.SIGSTOP, 240)], ids=['killed', 'stopped']
)
def test_a_process_that_is_lost_is_replaced_and_the_weights_stay_the_same(
    start, whole, tmp_path, number, limit
):
    process, ranks = start(MAX_RESTARTS='1')
    os.kill(ranks[1], number)
    assert process.wait(timeout=limit) == 0, read(tmp_path)
    assert_identical(whole, tmp_path / 'out')


def test_without_restarts_a_stopped_process_ends_the_run(start, tmp_path):
    process, ranks = start()
    os.kill(ranks[1], signal.SIGSTOP)
    assert process.wait(timeout=90) == 1
    assert 'Timeout (0:00:15)!' in (tmp_path / 'log').read_text()
