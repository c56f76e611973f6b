"""Signals: a run saves a checkpoint, ends with its own exit code, and can be resumed exactly."""

import os
import signal
import time

import pytest
import torch
from mmengine.hooks import CheckpointHook, Hook
from noisy_run import final_state, make_runner

from mmwf.commands import run_main
from mmwf.engine import ExactResumeHook, SignalHook, StallHook, signals
from mmwf.errors import RunStopped


class Send(Hook):
    """Sends signals to this process in some iterations."""

    def __init__(self, numbers):
        self.numbers = numbers

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter + 1 in self.numbers:
            os.kill(os.getpid(), self.numbers[runner.iter + 1])


def default_hooks(**checkpoint):
    checkpoint = dict(type='CheckpointHook', interval=2, by_epoch=False) | checkpoint
    return dict(exact_resume=ExactResumeHook(), checkpoint=checkpoint, signals=SignalHook())


@pytest.fixture
def unhandled():
    """Fails if a signal is handled differently after the test."""
    before = {number: signal.getsignal(number) for number in signals.SIGNALS}
    yield
    assert {number: signal.getsignal(number) for number in signals.SIGNALS} == before


@pytest.mark.parametrize(
    ('number', 'code'),
    [(signal.SIGTERM, 75), (signal.SIGUSR1, 75), (signal.SIGHUP, 75), (signal.SIGINT, 130)],
)
@pytest.mark.parametrize('checkpoint', [{}, dict(by_epoch=True, interval=1)], ids=['iter', 'epoch'])
def test_a_stopped_run_resumes_to_the_same_weights(tmp_path, unhandled, number, code, checkpoint):
    settings = dict(default_hooks=default_hooks(**checkpoint))
    make_runner(tmp_path / 'whole', **settings).train()
    with pytest.raises(RunStopped) as stop:
        hooks = [Send({8: number})]  # in the middle of an epoch of 5
        make_runner(tmp_path / 'stopped', hooks=hooks, **settings).train()
    assert stop.value.code == code
    name = 'stopped.pth' if checkpoint else 'iter_8.pth'
    assert (tmp_path / 'stopped/last_checkpoint').read_text() == str(tmp_path / 'stopped' / name)
    runner = make_runner(tmp_path / 'stopped', resume=True, **settings)
    runner.train()
    states = final_state(tmp_path / 'whole'), final_state(tmp_path / 'stopped')
    torch.testing.assert_close(*states, rtol=0, atol=0)


def test_a_signal_is_answered_at_once_and_the_end_says_how_to_resume(tmp_path, capfd):
    class Look(Hook):
        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            if runner.iter + 1 == 8:
                self.seen = capfd.readouterr().err

    look = Look()
    with pytest.raises(RunStopped):
        hooks = [Send({8: signal.SIGINT}), look]
        settings = dict(default_hooks=default_hooks(), log_level='WARNING')
        make_runner(tmp_path, hooks=hooks, **settings).train()
    (line,) = look.seen.split('\n')[1:2]
    assert line.startswith('Stopping: a checkpoint is saved after this iteration')
    out = capfd.readouterr().out
    assert 'iter_8.pth. To continue, run the same command with --resume.' in out


def test_a_run_stops_after_a_step_of_the_optimizer(tmp_path, unhandled):
    wrapper = dict(accumulative_counts=4, optimizer=dict(type='AdamW', lr=0.1))
    with pytest.raises(RunStopped):
        make_runner(
            tmp_path,
            hooks=[Send({5: signal.SIGTERM})],
            default_hooks=default_hooks(),
            optim_wrapper=wrapper,
        ).train()
    assert (tmp_path / 'last_checkpoint').read_text().endswith('iter_8.pth')


def test_signals_in_quick_succession_are_one(tmp_path, unhandled):
    hook = SignalHook()
    runner = make_runner(tmp_path, kill=1, default_hooks=dict(exact_resume=ExactResumeHook()))
    hook.before_train(runner)
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGTERM)
    hook.after_train(runner)


def test_a_second_signal_ends_the_process_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(signals, 'SAME_SECONDS', 0.05)
    process = os.fork()
    if not process:
        hook = SignalHook()
        hook.before_train(make_runner(tmp_path))
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGTERM)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -signal.SIGTERM


def test_commands_end_with_the_code_of_the_signal(monkeypatch):
    ignored = []
    monkeypatch.setattr(signal, 'signal', lambda *args: ignored.append(args))

    def stop():
        raise RunStopped(75)

    with pytest.raises(SystemExit) as end:
        run_main(stop)
    assert end.value.code == 75
    assert ignored == [(signal.SIGTERM, signal.SIG_IGN)]


def test_a_checkpoint_of_the_same_iteration_is_not_saved_twice(tmp_path, monkeypatch):
    saved = []
    original = CheckpointHook._save_checkpoint
    monkeypatch.setattr(
        CheckpointHook,
        '_save_checkpoint',
        lambda self, runner: (saved.append(runner.iter + 1), original(self, runner)),
    )
    with pytest.raises(RunStopped):
        make_runner(
            tmp_path, hooks=[Send({4: signal.SIGTERM})], default_hooks=default_hooks()
        ).train()
    assert saved == [2, 4]


def test_a_step_that_takes_too_long_ends_the_process_and_says_where(tmp_path, capfd):
    class Hang(Hook):
        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            if runner.iter == 2:
                time.sleep(60)

    process = os.fork()
    if not process:
        make_runner(tmp_path, hooks=[Hang(), StallHook(timeout=0.5)]).train()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 1
    assert 'in after_train_iter' in capfd.readouterr().err


def test_the_first_step_may_take_longer(tmp_path):
    class Compile(Hook):
        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            if runner.iter == 0:
                time.sleep(0.5)

    make_runner(tmp_path, hooks=[Compile(), StallHook(timeout=0.4)]).train()


def test_a_timeout_of_zero_is_an_error():
    with pytest.raises(ValueError, match='positive timeout in seconds, got 0'):
        StallHook(0)
