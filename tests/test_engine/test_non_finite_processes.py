"""Two processes, of which one gets a batch with NaN."""

import sys

import pytest
from helpers import ROOT, run

SCRIPT = f"""
import sys, torch
sys.path.insert(0, {str(ROOT / 'tests')!r})
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from noisy_run import NoisyModel, make_runner
from mmwf.commands import run_main
from mmwf.engine import NonFiniteHook

torch.distributed.init_process_group('gloo')


class Spoil(Hook):
    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if get_rank() == 1 and runner.iter + 1 in map(int, sys.argv[2].split(',')):
            data_batch['inputs'][0].fill_(float('nan'))


class Detached(NoisyModel):
    # A loss that is NaN on the second process only, with gradients that are finite on both.
    def forward(self, inputs, mode='tensor'):
        clean = [torch.nan_to_num(x) for x in inputs]
        out = super().forward(clean, mode)
        if mode == 'loss':
            out['loss'] = out['loss'] + 0 * torch.stack(inputs).detach().sum()
        return out


def main():
    model = Detached() if sys.argv[3] == 'loss' else NoisyModel()
    runner = make_runner(
        sys.argv[1], hooks=[NonFiniteHook(patience=3), Spoil()], model=model,
        launcher='pytorch', loader=dict(batch_size=3),
        cfg=dict(model_wrapper_cfg=dict(
            type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False)),
    )
    runner.train()
    weights = torch.cat([p.flatten() for p in runner.model.parameters()])
    both = [torch.empty_like(weights) for _ in range(2)]
    torch.distributed.all_gather(both, weights)
    assert torch.isfinite(weights).all() and torch.equal(*both)
    print('finished', get_rank())


run_main(main)
"""


def train(tmp_path, iterations, kind, code=0):
    script = tmp_path / 'script.py'
    script.write_text(SCRIPT)
    launch = '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', 2
    return run(sys.executable, *launch, script, tmp_path / 'out', iterations, kind, code=code)


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['gradients', 'loss'])
def test_both_processes_skip_what_one_finds(tmp_path, kind):
    out = train(tmp_path, '3,4,7', kind)
    assert out.count('finished') == 2


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['gradients', 'loss'])
def test_both_processes_stop_and_name_the_one_with_nan(tmp_path, kind):
    out = train(tmp_path, '4,5,6', kind, code=1)
    assert out.count('Training has diverged: in the last 3 iterations, up to 6') == 2
    assert 'process 1: first the input' in out and 'process 0' not in out
