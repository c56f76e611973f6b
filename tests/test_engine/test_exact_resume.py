"""Runs that are killed and resumed, compared bit by bit with uninterrupted ones."""

import pytest
import torch
from noisy_run import Killed, final_state, make_runner

from mmwf.checkpoints import save_checkpoint
from mmwf.engine import ExactResumeHook
from mmwf.engine.signals import drop_iterators
from mmwf.errors import UserError

EMA = dict(hooks=[dict(type='EMAHook', momentum=0.1)])
AMP = dict(optim_wrapper=dict(type='mmwf.AmpOptimWrapper', optimizer=dict(type='SGD', lr=0.1)))


def train(work_dir, kills=(), **settings):
    """Trains, killed after each of some iterations and resumed; returns the final state."""
    for number, kill in enumerate([*kills, None]):
        runner = make_runner(work_dir, kill=kill, resume=number > 0, **settings)
        torch.rand(number)  # another process would be in another state
        if kill is None:
            runner.train()
            drop_iterators(runner)  # else the workers end later
        else:
            with pytest.raises(Killed):
                runner.train()
    return final_state(work_dir)


def assert_identical(first, second):
    torch.testing.assert_close(first, second, rtol=0, atol=0)


@pytest.mark.parametrize('extra', [{}, EMA, AMP], ids=['plain', 'ema', 'amp'])
@pytest.mark.parametrize('endless', [False, True], ids=['epochs', 'iterations'])
@pytest.mark.parametrize(
    ('workers', 'persistent'), [(0, False), (2, False), (2, True)], ids=['0', '2', '2-persistent']
)
def test_a_run_killed_three_times_ends_with_the_same_weights(
    tmp_path, workers, persistent, endless, extra
):
    settings = dict(workers=workers, persistent=persistent, endless=endless, **extra)
    whole = train(tmp_path / 'whole', **settings)
    # In the middle of an epoch, just before a checkpoint, and at the end of an epoch.
    killed = train(tmp_path / 'killed', kills=(3, 7, 10), **settings)
    assert_identical(whole, killed)


def test_the_number_of_workers_does_not_change_the_weights(tmp_path):
    runs = [train(tmp_path / str(n), workers=n) for n in (0, 1, 3)]
    assert_identical(runs[0], runs[1])
    assert_identical(runs[0], runs[2])


def test_other_seeds_and_iterations_draw_other_numbers(tmp_path):
    first = train(tmp_path / 'first')
    other = train(tmp_path / 'other', randomness=dict(seed=1))
    assert not torch.equal(
        first['state_dict']['linear.weight'], other['state_dict']['linear.weight']
    )
    losses = []
    for work_dir in ('a', 'b'):
        runner = make_runner(tmp_path / work_dir)
        runner.train()
        history = runner.message_hub.get_scalar('train/loss').data[0]
        losses.append(list(history))
    assert losses[0] == losses[1]
    assert len(set(losses[0])) == 15


def test_a_seed_that_was_drawn_is_kept(tmp_path):
    """With ``seed=None``, MMEngine draws one; a resumed run must not draw the data's anew."""
    settings = dict(randomness=dict(seed=None))
    with pytest.raises(Killed):
        make_runner(tmp_path, kill=7, **settings).train()
    seen = []
    for kill in (9, 11):
        runner = make_runner(tmp_path, resume=True, kill=kill, **settings)
        with pytest.raises(Killed):
            runner.train()
        seen.append((runner.seed, runner.train_dataloader.batch_sampler.sampler.seed))
    assert seen[0] == seen[1]


def test_a_run_without_checkpoints_in_the_middle_repeats_the_epoch(tmp_path):
    checkpoint = dict(type='CheckpointHook', interval=1)
    hooks = dict(default_hooks=dict(exact_resume=ExactResumeHook(), checkpoint=checkpoint))
    whole = train(tmp_path / 'whole', **hooks)
    killed = train(tmp_path / 'killed', kills=(7, 10, 11), **hooks)
    assert_identical(whole, killed)


def test_a_finite_sampler_starts_over_when_iterations_are_counted(tmp_path):
    settings = dict(endless=True, loader=dict(sampler=dict(type='DefaultSampler', shuffle=True)))
    whole = train(tmp_path / 'whole', **settings)
    killed = train(tmp_path / 'killed', kills=(3, 7), **settings)
    assert_identical(whole, killed)
    epochs = train(tmp_path / 'epochs')
    assert_identical(whole, epochs)  # both see the images in the same order


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(loader=dict(batch_size=5)), r'batch_size=4 \(now 5\)'),
        (
            dict(optim_wrapper=dict(accumulative_counts=2, optimizer=dict(type='AdamW'))),
            r'accumulative_counts=1 \(now 2\)',
        ),
    ],
)
def test_another_batch_size_is_an_error_that_says_how_to_go_on(tmp_path, settings, message):
    with pytest.raises(Killed):
        make_runner(tmp_path, kill=7).train()
    with pytest.raises(UserError, match=f'{message}.*exact_resume.strict=False'):
        make_runner(tmp_path, resume=True, **settings).train()


def test_the_share_of_finished_epochs_stays_with_another_batch_size(tmp_path):
    with pytest.raises(Killed):
        make_runner(tmp_path, kill=10).train()  # two epochs of 5 batches
    hooks = dict(exact_resume=ExactResumeHook(strict=False))
    runner = make_runner(tmp_path, resume=True, loader=dict(batch_size=2), default_hooks=hooks)
    runner.train()
    assert (runner.epoch, runner.iter) == (3, 27)


def test_a_checkpoint_of_another_epoch_length_is_refused(tmp_path):
    """Such as one that has no record of its batch size."""
    with pytest.raises(Killed):
        make_runner(tmp_path, kill=7).train()
    path = (tmp_path / 'last_checkpoint').read_text()
    checkpoint = torch.load(path, weights_only=False)
    del checkpoint['meta']['data']
    save_checkpoint(checkpoint, path)
    with pytest.raises(UserError, match='of iteration 6 in epoch 2, but with 9 batches'):
        make_runner(tmp_path, resume=True, loader=dict(batch_size=2)).train()
