"""A run that is killed at any moment can be resumed."""

import multiprocessing
import os
import shutil
import signal
import sys
import time

import pytest
import torch
from mmengine.runner import CheckpointLoader
from toy_runner import make_runner

from mmwf.checkpoints import find_newest, read_checkpoint, read_pointer
from mmwf.checkpoints.writing import digest_path
from mmwf.errors import UserError


def names(folder, pattern='*.pth*'):
    return sorted(path.name for path in folder.glob(pattern))


def run_in_child(target, *args):
    """Starts a function in a copy of this process."""
    process = multiprocessing.get_context('fork').Process(target=target, args=args)
    process.start()
    return process


def kill_before_file_operation(number, folder):
    """Kills this process when it opens, renames or removes files in a folder for the n-th time."""
    left = number

    def audit(event, arguments):
        nonlocal left
        if event in ('open', 'os.rename', 'os.remove') and str(folder) in str(arguments[0]):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(audit)


def save_four_times(folder, number):
    runner = make_runner(folder, 3, scores=[0.1, 0.2, 0.3])
    save = runner.save_checkpoint

    def count(*args, **kwargs):
        if runner.iter == 2 and not args[1:]:  # the first save of the third iteration
            kill_before_file_operation(number, folder)
        save(*args, **kwargs)

    runner.save_checkpoint = count
    runner.train()


@pytest.mark.slow
def test_a_run_that_is_killed_before_any_file_operation_of_a_save_loses_at_most_one_iteration(
    tmp_path,
):
    make_runner(tmp_path / 'warm_up', 1).train()  # what it imports, the children need not
    for number in range(1, 100):
        folder = tmp_path / str(number)
        child = run_in_child(save_four_times, folder, number)
        child.join()
        newest, skipped = find_newest(folder)
        assert skipped == []
        if child.exitcode == 0:
            break
        assert child.exitcode == -signal.SIGKILL
        assert read_checkpoint(newest)['meta']['iter'] >= 2
    assert number > 20  # operations of the two saves and the best one's


def train(folder, size):
    make_runner(folder, 1000, size=size).train()


def test_a_run_that_is_killed_while_it_writes_keeps_the_earlier_checkpoint(tmp_path):
    folder = tmp_path / 'work'
    child = run_in_child(train, folder, 10_000_000)  # 40 MB
    while not digest_path(folder / 'iter_2.pth').exists():
        time.sleep(0.01)
    while not (partial := [p for p in folder.glob('*.part') if p.stat().st_size]):
        assert child.is_alive()
    child.kill()
    child.join()
    assert partial[0].exists()
    newest, _ = find_newest(folder)
    assert len(read_checkpoint(newest)['state_dict']['ballast']) == 10_000_000
    resumed = make_runner(folder, 0, size=10_000_000, resume=True)
    resumed.train()
    assert resumed.iter >= 2 and names(folder, '*.part') == []


def test_outdated_and_previous_best_checkpoints_are_removed_with_their_digests(tmp_path):
    make_runner(tmp_path, 4, scores=[0.1, 0.5, 0.3, 0.2]).train()
    kept = ['best_toy_accuracy_iter_2.pth', 'iter_4.pth']
    assert names(tmp_path) == sorted([*kept, *(f'{name}.sha256' for name in kept)])


def test_a_moved_work_dir_is_resumed_and_its_best_checkpoint_replaced(tmp_path):
    make_runner(tmp_path / 'old', 2, scores=[0.1, 0.5]).train()
    assert (tmp_path / 'old' / 'last_checkpoint').read_text() == 'iter_2.pth'
    shutil.move(tmp_path / 'old', tmp_path / 'new')
    runner = make_runner(tmp_path / 'new', 4, scores=[0.3, 0.9], resume=True)
    runner.train()
    assert runner.iter == 4
    kept = ['best_toy_accuracy_iter_4.pth', 'iter_4.pth']
    assert names(tmp_path / 'new', '*.pth') == kept and not (tmp_path / 'old').exists()


def test_what_a_killed_run_left_of_outdated_checkpoints_is_removed_when_it_is_resumed(tmp_path):
    make_runner(tmp_path, 2).train()
    shutil.copy(tmp_path / 'iter_2.pth', tmp_path / 'iter_1.pth')  # as if killed before its removal
    make_runner(tmp_path, 3, resume=True).train()
    assert names(tmp_path, '*.pth') == ['iter_3.pth']


def test_published_checkpoints_have_only_the_wanted_keys_and_a_digest(tmp_path):
    make_runner(tmp_path, 2, published_keys=['meta', 'state_dict']).train()
    (published,) = tmp_path.glob('iter_2-*.pth')
    assert set(read_checkpoint(published)) == {'meta', 'state_dict'}
    assert digest_path(published).exists()
    assert find_newest(tmp_path)[0] == str(tmp_path / 'iter_2.pth')


def test_checkpoints_in_another_folder_are_resumed(tmp_path):
    settings = dict(out_dir=str(tmp_path / 'large_disk'))
    make_runner(tmp_path / 'work', 2, **settings).train()
    saved = tmp_path / 'large_disk' / 'work' / 'iter_2.pth'
    assert read_pointer(tmp_path / 'work') == str(saved)
    runner = make_runner(tmp_path / 'work', 3, resume=True, **settings)
    runner.train()
    assert names(saved.parent, '*.pth') == ['iter_3.pth']


def test_a_checkpoint_can_be_saved_at_any_time(tmp_path):
    runner = make_runner(tmp_path, 2)
    runner.train()
    hook = next(h for h in runner.hooks if type(h).__name__ == 'CheckpointHook')
    hook.save_as(runner, 'interrupted.pth', dict(epoch=0, iter=2))
    assert (tmp_path / 'last_checkpoint').read_text() == 'interrupted.pth'
    assert read_checkpoint(tmp_path / 'interrupted.pth')['meta']['iter'] == 2


def test_a_resumed_checkpoint_is_read_to_the_cpu_whatever_device_mmengine_asks_for(tmp_path):
    make_runner(tmp_path, 1).train()
    loaded = CheckpointLoader.load_checkpoint(str(tmp_path / 'iter_1.pth'), map_location='meta')
    state = loaded['optimizer']['state'][0]
    assert {x.device.type for x in (*loaded['state_dict'].values(), *state.values())} == {'cpu'}


def test_a_checkpoint_of_which_a_weight_is_missing_is_not_resumed(tmp_path):
    make_runner(tmp_path, 1).train()
    content = read_checkpoint(tmp_path / 'iter_1.pth')
    del content['state_dict']['linear.bias']
    torch.save(content, tmp_path / 'iter_1.pth')
    digest_path(tmp_path / 'iter_1.pth').unlink()
    runner = make_runner(tmp_path, 2, resume=True)
    runner.register_hook(dict(type='mmwf.CheckpointMatchHook'))
    with pytest.raises(UserError, match=r'missing: linear\.bias'):
        runner.train()


def test_a_file_of_weights_is_not_resumed(tmp_path):
    model = make_runner(tmp_path / 'model', 1).model
    for content in (model.state_dict(), dict(state_dict=model.state_dict())):
        torch.save(content, tmp_path / 'weights.pth')
        runner = make_runner(tmp_path / 'run', 2, resume=True)
        runner._load_from = str(tmp_path / 'weights.pth')
        runner.register_hook(dict(type='mmwf.CheckpointMatchHook'))
        with pytest.raises(UserError, match=r'weights\.pth has only weights; .*load_from='):
            runner.train()
