"""Depth estimation: its recipe, its data, and training and testing at toy size (toy_depth.py)."""

import json
from pathlib import Path

import mmengine
import mmseg
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, MODELS, init_default_scope
from toy_depth import shrink_depth, write_nyu

from mmwf.commands import test as test_tool
from mmwf.commands import train as train_tool
from mmwf.libraries import import_task_library

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / 'configs/depth'
LEAVES = sorted(FOLDER.glob('*.py'))
(CONFIG,) = LEAVES


@pytest.fixture
def nyu(tmp_path):
    return write_nyu(tmp_path / 'nyu')


@pytest.fixture
def cfg(nyu):
    cfg = shrink_depth(Config.fromfile(CONFIG), nyu)
    import_task_library(cfg)
    init_default_scope('mmseg')
    return cfg


@pytest.mark.parametrize('options', [[], ['--amp']], ids=['fp32', 'amp'])
def test_it_trains_and_its_checkpoint_tests_as_in_training(cfg, options, tmp_path):
    cfg.dump(tmp_path / 'toy.py')
    arguments = [str(tmp_path / 'toy.py'), '--work-dir', str(tmp_path)]
    train_tool.main([*arguments, *options])
    (log,) = tmp_path.glob('*/vis_data/scalars.json')
    records = [json.loads(line) for line in log.read_text().splitlines()]
    losses = [record['loss'] for record in records if 'loss' in record]
    assert len(losses) == 2 and all(0 < loss < 100 for loss in losses)
    assert list(tmp_path.glob('best_rmse_*.pth'))
    out = tmp_path / 'predictions.pkl'
    metrics = test_tool.main(
        [arguments[0], str(tmp_path / 'iter_2.pth'), *arguments[1:], '--out', str(out)]
    )
    assert metrics['rmse'] == pytest.approx(records[-1]['rmse'], rel=1e-4)
    errors = []
    for prediction in mmengine.load(out):
        depth, truth = (prediction[k]['data'][0] for k in ('pred_depth_map', 'gt_depth_map'))
        assert depth.shape == truth.shape == (64, 96)
        inside = torch.zeros(64, 96, dtype=torch.bool)
        inside[45:, 41:] = True  # Eigen's crop
        errors.append((depth - truth)[inside & (truth > 0)].square().mean().sqrt().item())
    assert metrics['rmse'] == pytest.approx(np.mean(errors), rel=1e-4)


@pytest.mark.parametrize('path', LEAVES)
def test_a_step_updates_every_parameter(path, cfg):
    model = MODELS.build(cfg.model)
    model.init_weights()
    optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for _ in range(2):
        losses = model.train_step(pseudo_collate([dataset[0], dataset[1]]), optim_wrapper)
        assert 0 < losses['decode.loss_silog'] < 100
    assert not [name for name, p in model.named_parameters() if torch.equal(p, before[name])]


def test_predictions_have_the_size_of_the_input_and_the_range_of_the_head(cfg):
    model = MODELS.build(Config.fromfile(CONFIG).model).eval()
    assert model.decode_head.max_depth == 10
    with torch.no_grad():
        depth = model(torch.randn(1, 3, 480, 640))
    assert depth.shape == (1, 1, 480, 640)
    assert depth.min() > 0 and depth.max() < 10


def test_head_loss_data_and_metric_are_mmsegs():
    cfg = Config.fromfile(CONFIG)
    folder = Path(mmseg.__file__).parent / '.mim/configs'
    theirs = Config.fromfile(folder / 'vpd/vpd_sd_4xb8-25k_nyu-480x480.py')
    assert cfg.val_evaluator == theirs.val_evaluator
    assert cfg.model.test_cfg == theirs.model.test_cfg
    for key in ('type', 'max_depth'):
        assert cfg.model.decode_head[key] == theirs.model.decode_head[key]
    assert cfg.optim_wrapper.optimizer == theirs.optim_wrapper.optimizer
    assert cfg.train_cfg == theirs.train_cfg
    assert cfg.train_dataloader.batch_size == theirs.train_dataloader.batch_size
    assert cfg.auto_scale_lr.base_batch_size == 4 * cfg.train_dataloader.batch_size
    for split in ('train', 'test'):
        ours, expected = (
            {step.type.removeprefix('mmwf.'): dict(step, type='') for step in pipeline}
            for pipeline in (cfg[f'{split}_pipeline'], theirs[f'{split}_pipeline'])
        )
        for replaced in ('PhotoMetricDistortion', 'RandomDepthMix', 'Albu'):
            ours.pop(replaced, None)
            expected.pop(replaced, None)
        assert ours == expected
        data = (c[f'{split}_dataloader'].dataset for c in (cfg, theirs))
        first, second = ({k: d[k] for k in ('type', 'data_root', 'data_prefix')} for d in data)
        assert first == second
