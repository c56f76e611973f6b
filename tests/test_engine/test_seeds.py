"""``diff_rank_seed``: what differs between the processes of a run, and what must not."""

import json
import sys

import pytest
from helpers import ROOT, make_once, run

from mmwf.datasets.toy.digits import write_digits

LEAF = ROOT / 'configs/quickstart/weightformer-w64d8-p4_1xb64-20e_digits-32px.py'
SCRIPT = f"""
import json, sys, torch
from mmengine.hooks import Hook
from mmwf.checkpoints import hash_weights
from mmwf.commands import run_main
from mmwf.engine.config import load_config
from mmwf.engine.run import set_up_run
from mmengine.dist import get_rank

root, out, launcher = sys.argv[1:]


class Record(Hook):
    def before_train(self, runner):
        model = getattr(runner.model, 'module', runner.model)
        sampler = runner.train_dataloader.batch_sampler.sampler
        sampler.set_epoch(1)
        record = dict(
            weights=hash_weights(model.state_dict()),
            order=list(sampler),
            noise=torch.rand(3).tolist(),
        )
        open(f'{{out}}/{{get_rank()}}.json', 'w').write(json.dumps(record))

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        raise KeyboardInterrupt


def main():
    cfg = load_config({str(LEAF)!r})
    cfg.model.backbone.arch = dict(embed_dims=16, depth=2, mlp_ratio=2)
    cfg.model.head.in_channels = 16
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.dataset.data_root = root
    cfg.work_dir = out
    runner = set_up_run(cfg, launcher)
    runner.register_hook(Record())
    try:
        runner.train()
    except KeyboardInterrupt:
        pass


run_main(main)
"""


@pytest.fixture(scope='module')
def digits(tmp_path_factory):
    return make_once(tmp_path_factory, 'seed_digits', write_digits)


def start(digits, out, processes):
    """Starts a run and returns what each process recorded before its first iteration."""
    out.mkdir()
    (out / 'script.py').write_text(SCRIPT)
    launch, launcher = (), 'none'
    if processes > 1:
        launch = ('-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', processes)
        launcher = 'pytorch'
    run(sys.executable, *launch, out / 'script.py', digits, out, launcher)
    return [json.loads((out / f'{rank}.json').read_text()) for rank in range(processes)]


@pytest.mark.slow
def test_processes_share_weights_and_order_and_draw_different_random_numbers(digits, tmp_path):
    first, second = start(digits, tmp_path / 'two', 2)
    assert first['weights'] == second['weights']
    assert first['noise'] != second['noise']
    (alone,) = start(digits, tmp_path / 'one', 1)
    # Together they see the images in the order in which one process sees them.
    together = [i for pair in zip(first['order'], second['order'], strict=True) for i in pair]
    assert together == [*alone['order'], alone['order'][0]]  # 1,437 images, made even
    assert alone['weights'] == first['weights'] and alone['noise'] == first['noise']


@pytest.mark.slow
def test_a_run_started_again_keeps_the_order_of_the_data(digits, tmp_path):
    orders = [start(digits, tmp_path / name, 1)[0]['order'] for name in ('first', 'again')]
    assert orders[0] == orders[1]
    assert sorted(orders[0]) == list(range(len(orders[0]))) and orders[0] != sorted(orders[0])
