"""Weight strength in the log of a training run."""

import json
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from mmengine.logging import MessageHub
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from mmwf.analysis import WeightStrengthHook
from mmwf.analysis.weight_strength import measure_weight_strength
from mmwf.models import WeightFormer

LAYERS = ['backbone.blocks.1.dwconv', 'backbone.blocks.1.mlp.fc1']
DATA = [dict(inputs=image) for image in torch.randn(12, 3, 16, 16)]


class Model(BaseModel):
    def __init__(self, **kwargs):
        super().__init__()
        arch = dict(embed_dims=8, depth=2, mlp_ratio=1)
        self.backbone = WeightFormer(arch, patch_size=4, **kwargs)

    def forward(self, inputs, mode='tensor'):
        return dict(loss=self.backbone(inputs)[0][:, 0].square().mean())


def train(tmp_path, model, hook, **optim_wrapper):
    """Trains three iterations; returns the lines of the log file."""
    runner = Runner(
        model,
        work_dir=str(tmp_path),
        train_dataloader=DataLoader(DATA, batch_size=4),
        train_cfg=dict(by_epoch=False, max_iters=3),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=1.0), **optim_wrapper),
        default_hooks=dict(logger=dict(type='LoggerHook', interval=1), weight_strength=hook),
        default_scope='mmengine',
        experiment_name=tmp_path.name,
    )
    runner.train()
    (scalars,) = tmp_path.glob('*/vis_data/scalars.json')
    return [json.loads(line) for line in scalars.read_text().splitlines()]


@pytest.mark.parametrize('with_cp', [False, True])
@pytest.mark.parametrize('wrapper', ['OptimWrapper', 'mmwf.AmpOptimWrapper'])
def test_the_strength_is_logged_at_each_interval(tmp_path, with_cp, wrapper):
    model = Model(with_cp=with_cp)
    batches = [batch['inputs'] for batch in DataLoader(DATA, batch_size=4)]
    before = measure_weight_strength(model, batches[:1])
    lines = train(tmp_path, model, dict(type='mmwf.WeightStrengthHook', interval=1), type=wrapper)
    tolerance = 1e-5 if wrapper == 'OptimWrapper' else 3e-2  # the tokens are in bf16
    for name in LAYERS:
        values = [line[f'weight_strength/{name}'] for line in lines]
        assert values[0] == pytest.approx(before[name].mean().item(), rel=tolerance)
        assert len(set(values)) == 3  # the weights have changed


def test_nothing_is_recorded_between_the_intervals(tmp_path):
    model, hooks = Model(), []
    layer = model.backbone.blocks[1].dwconv
    layer.register_forward_hook(lambda *args: hooks.append(len(layer.predictor._forward_hooks)))
    lines = train(tmp_path, model, WeightStrengthHook(interval=2))
    assert hooks == [0, 1, 0]
    names = [[key for key in line if key.startswith('weight_strength/')] for line in lines]
    assert names[:2] == [[], [f'weight_strength/{name}' for name in LAYERS]]


@pytest.mark.skipif(not dist.is_gloo_available(), reason='torch was built without gloo')
def test_names_are_the_same_in_a_data_parallel_model(tmp_path):
    store = dist.FileStore(str(tmp_path / 'store'), 1)
    dist.init_process_group('gloo', store=store, rank=0, world_size=1)
    try:
        model, hook = DistributedDataParallel(Model()), WeightStrengthHook(interval=1)
        hub = MessageHub.get_instance(tmp_path.name)
        runner = SimpleNamespace(model=model, iter=0, message_hub=hub)
        hook.before_train(runner)
        hook.before_train_iter(runner, 0)
        model(DATA[0]['inputs'][None])
        hook.after_train_iter(runner, 0)
    finally:
        dist.destroy_process_group()
    assert list(hub.log_scalars) == [f'train/weight_strength/{name}' for name in LAYERS]


def test_it_is_the_mean_over_all_processes(tmp_path, monkeypatch):
    def all_reduce(means, op):
        assert op == 'mean'
        means *= 3  # as if the strengths of a second process were five times as large

    monkeypatch.setattr('mmwf.analysis.hooks.all_reduce', all_reduce)
    model = Model()
    own = measure_weight_strength(model, [batch['inputs'][None] for batch in DATA[:4]])
    first, *_ = train(tmp_path, model, WeightStrengthHook(interval=1))
    for name in LAYERS:
        expected = 3 * own[name].mean().item()
        assert first[f'weight_strength/{name}'] == pytest.approx(expected, rel=1e-5)


def test_a_model_without_dynamic_layers_is_an_error(tmp_path):
    model = Model(dynamic_blocks='none')
    with pytest.raises(ValueError, match='dynamic layers, but Model has none'):
        train(tmp_path, model, WeightStrengthHook())


def test_a_compiled_model_is_an_error():
    model, hook = torch.compile(Model(), backend='eager'), WeightStrengthHook(interval=1)
    runner, batch = SimpleNamespace(model=model, iter=0), DATA[0]['inputs'][None]
    model(batch)  # now it is compiled
    hook.before_train_iter(runner, 0)
    model(batch)
    with pytest.raises(ValueError, match='recorded no dynamic layers.*compile=False'):
        hook.after_train_iter(runner, 0)


def test_the_interval_is_positive():
    with pytest.raises(ValueError, match='at least 1 iteration, got 0'):
        WeightStrengthHook(interval=0)
