"""One run at a time in a work dir."""

import json
import os
import signal
import socket
import subprocess
import sys

import pytest
from helpers import ROOT
from toy_runner import make_runner

from mmwf.engine.work_dir import LOCK, lock_work_dir, unlock_work_dir
from mmwf.errors import UserError

HOLD = """
import os, sys, time
from mmwf.engine.work_dir import lock_work_dir
lock_work_dir(sys.argv[1])
if os.fork() == 0:  # as a worker of a data loader
    time.sleep(60)
print(os.getpid(), flush=True)
time.sleep(60)
"""


@pytest.fixture
def owner(tmp_path):
    """A process that has locked the work dir, and has itself a child."""
    env = {**os.environ, 'PYTHONPATH': str(ROOT)}
    command = [sys.executable, '-c', HOLD, str(tmp_path)]
    process = subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout.readline().strip() == str(process.pid)
    yield process
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()


def test_a_second_run_is_refused_with_the_owners_name_until_the_owner_is_dead(owner, tmp_path):
    expected = rf'process {owner.pid} on {socket.gethostname()}, since \d{{4}}-\d\d-\d\d '
    for attempt in (lock_work_dir, lambda folder: make_runner(folder, 1).train()):
        with pytest.raises(UserError, match=expected):
            attempt(tmp_path)
    os.kill(owner.pid, signal.SIGKILL)
    owner.wait()
    lock_work_dir(tmp_path)  # although the owner's child is alive
    assert json.loads((tmp_path / LOCK).read_text())['pid'] == os.getpid()
    unlock_work_dir(tmp_path)


def test_a_run_unlocks_its_folder_at_its_end(tmp_path):
    make_runner(tmp_path, 1).train()
    assert (tmp_path / LOCK).read_text() == ''
    lock_work_dir(tmp_path)
    lock_work_dir(tmp_path)  # this process holds it
    unlock_work_dir(tmp_path)


def test_a_folder_that_cannot_be_written_is_an_error_with_its_path(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(UserError, match=f'Cannot write to the work dir {tmp_path}/file/work'):
        lock_work_dir(tmp_path / 'file' / 'work')


def test_a_finished_run_is_neither_continued_nor_overwritten_by_accident(tmp_path):
    make_runner(tmp_path, 2).train()
    content = (tmp_path / 'iter_2.pth').read_bytes()
    with pytest.raises(UserError, match=r'holds the checkpoints of a run \(iter_2\.pth\)'):
        make_runner(tmp_path, 1).train()
    assert (tmp_path / 'iter_2.pth').read_bytes() == content
    runner = make_runner(tmp_path, 1)
    next(h for h in runner.hooks if type(h).__name__ == 'WorkDirHook').overwrite = True
    runner.train()
    assert sorted(path.name for path in tmp_path.glob('*.pth')) == ['iter_1.pth']
