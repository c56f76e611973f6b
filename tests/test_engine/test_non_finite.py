"""Losses and gradients that are not finite: steps are skipped, and a run of them ends."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import Hook
from noisy_run import NoisyData, NoisyModel, final_state, make_runner

from mmwf.engine import NonFiniteHook
from mmwf.engine.non_finite import first_non_finite, is_finite
from mmwf.errors import UserError

NAN, INF = float('nan'), float('inf')
CLIPPED = dict(clip_grad=dict(max_norm=1.0), optimizer=dict(type='AdamW', lr=0.1))
BF16 = dict(type='mmwf.AmpOptimWrapper', optimizer=dict(type='AdamW', lr=0.1))
ACCUMULATED = dict(accumulative_counts=2, optimizer=dict(type='AdamW', lr=0.1))
PLAIN = dict(optimizer=dict(type='AdamW', lr=0.1))


class SpoilHook(Hook):
    """Makes the inputs of some iterations NaN."""

    def __init__(self, iterations):
        self.iterations = iterations

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter + 1 in self.iterations:
            data_batch['inputs'][0].fill_(NAN)


class RecordHook(Hook):
    """Records what training changes after each iteration."""

    priority = 'LOWEST'

    def before_train(self, runner):
        self.states = [self.state(runner)]

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.states.append(self.state(runner))

    def state(self, runner):
        model = {k: v.clone() for k, v in runner.model.state_dict().items()}
        model.pop('norm.num_batches_tracked')
        moments = [s['exp_avg'].clone() for s in runner.optim_wrapper.optimizer.state.values()]
        return model, moments


def run(tmp_path, bad, wrapper=PLAIN, patience=20, **settings):
    record = RecordHook()
    hooks = [NonFiniteHook(patience), SpoilHook(bad), record]
    runner = make_runner(tmp_path, hooks=hooks, optim_wrapper=wrapper, **settings)
    runner.train()
    return record.states


def unchanged(first, second):
    return torch.equal(first[0]['linear.weight'], second[0]['linear.weight'])


@pytest.mark.parametrize('wrapper', [PLAIN, CLIPPED, BF16], ids=['plain', 'clipped', 'bf16'])
def test_a_batch_with_nan_changes_nothing_and_training_goes_on(tmp_path, wrapper):
    states = run(tmp_path, [5], wrapper)
    torch.testing.assert_close(states[4], states[5], rtol=0, atol=0)
    assert not unchanged(states[5], states[6])
    assert is_finite(final_state(tmp_path))


def test_an_accumulated_step_is_skipped_as_a_whole(tmp_path):
    states = run(tmp_path, [5], ACCUMULATED)
    assert unchanged(states[4], states[6])  # the step of iterations 5 and 6
    assert not unchanged(states[6], states[8])
    assert is_finite(final_state(tmp_path))


def test_a_run_of_bad_steps_ends_with_what_is_known(tmp_path):
    message = r'last 3 iterations, up to 9, .*process 0: first the input; batch: of unknown files'
    with pytest.raises(UserError, match=message):
        run(tmp_path, [4, 7, 8, 9], patience=3)
    assert is_finite(final_state(tmp_path))


def test_the_files_of_the_last_batch_are_named(tmp_path):
    class Data(NoisyData):
        def __getitem__(self, index):
            sample = SimpleNamespace(img_path=f'{index}.png')
            return dict(super().__getitem__(index), data_samples=sample)

    class Model(NoisyModel):
        def forward(self, inputs, data_samples, mode='tensor'):
            return super().forward(inputs, mode)

    with pytest.raises(UserError, match=r'batch: \d+\.png, \d+\.png, \d+\.png, \d+\.png\)'):
        run(tmp_path, [3], patience=1, model=Model(), loader=dict(dataset=Data()))


def test_a_good_step_starts_the_count_anew(tmp_path):
    run(tmp_path, [1, 2, 4, 5, 7, 8], patience=3)


def test_an_infinite_loss_counts_although_its_gradients_are_finite(tmp_path):
    class Model(NoisyModel):
        def forward(self, inputs, mode='tensor'):
            out = super().forward(inputs, mode)
            return {k: v + INF for k, v in out.items()} if mode == 'loss' else out

    with pytest.raises(UserError, match='last 4 iterations, up to 4'):
        run(tmp_path, [], patience=4, model=Model())


def test_a_rate_of_a_million_ends_the_run_and_leaves_finite_weights(tmp_path):
    wrapper = dict(optimizer=dict(type='SGD', lr=1e30))
    with pytest.raises(UserError, match='Training has diverged|weights are not finite'):
        run(tmp_path, [], wrapper, patience=3)
    if (tmp_path / 'last_checkpoint').exists():
        assert is_finite(final_state(tmp_path)['state_dict'])


def test_weights_that_are_not_finite_are_not_written(tmp_path):
    class Break(Hook):
        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            if runner.iter + 1 == 6:
                runner.model.linear.weight.data[0] = INF

    hooks = [NonFiniteHook(), Break()]
    with pytest.raises(UserError, match=r'weights are not finite.*linear\.weight'):
        make_runner(tmp_path, hooks=hooks).train()
    assert (tmp_path / 'last_checkpoint').read_text().endswith('iter_4.pth')


def test_the_first_module_with_nan_is_named():
    model = NoisyModel()
    batch = dict(inputs=[torch.ones(4), torch.ones(4)])
    assert first_non_finite(model, batch) == 'only the gradients'
    model.norm.register_forward_hook(lambda module, args, output: output * NAN)
    assert first_non_finite(model, batch) == 'the output of norm (BatchNorm1d)'
    model.linear.weight.data[0] = NAN
    assert first_non_finite(model, batch) == 'the weights linear.weight'


@pytest.mark.parametrize('value', [NAN, INF, -INF])
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32])
def test_every_value_that_is_not_finite_is_found(value, dtype):
    tensors = dict(a=torch.ones(3, dtype=dtype), b=[torch.ones(2, 2, dtype=dtype)], c=torch.ones(1))
    assert is_finite(tensors)
    tensors['b'][0][1, 1] = value
    assert not is_finite(tensors)


def test_large_values_are_finite():
    assert is_finite([torch.full((9,), 6e4, dtype=torch.float16), torch.full((9,), 3e38)])
    assert is_finite([torch.zeros(0), torch.tensor([1])])


def test_a_patience_of_zero_is_an_error():
    with pytest.raises(ValueError, match='at least 1 iteration, got 0'):
        NonFiniteHook(0)
