"""Trainings of the four tasks, killed with SIGKILL and resumed."""

import pytest
import torch
from helpers import ROOT, make_once, run_tool
from mmengine.config import Config
from toy import shrink_detection, shrink_segmentation, write_ade20k, write_coco

from mmwf.analysis import kill_test
from mmwf.analysis.kill_test import find_differences
from mmwf.datasets.toy.digits import write_digits
from mmwf.errors import UserError

CONFIGS = ROOT / 'configs'
DETECTOR = 'detection/vitdet-mask-rcnn_weightformer-tiny-p16_16xb4-amp-lsj-100e_coco.py'
SEGMENTOR = 'segmentation/upernet_weightformer-tiny-p16_8xb2-160k_ade20k-512x512.py'
CLASSIFIER = 'quickstart/weightformer-w64d8-p4_1xb64-20e_digits-32px.py'
GENERATOR = 'quickstart/dit_weightformer-w64d6-p2_1xb64-1500i_digits-8px.py'


def classification(folder):
    write_digits(folder / 'data')
    cfg = Config.fromfile(CONFIGS / CLASSIFIER)
    cfg.model.backbone.update(
        arch=dict(embed_dims=8, depth=2, mlp_ratio=2), patch_size=8, drop_path_rate=0.1
    )
    cfg.model.head.in_channels = 8
    cfg.train_cfg.update(max_epochs=2, val_interval=1)
    for name in ('train', 'val', 'test'):
        cfg[f'{name}_dataloader'].dataset.data_root = str(folder / 'data')
    return cfg


def detection(folder):
    return shrink_detection(Config.fromfile(CONFIGS / DETECTOR), write_coco(folder / 'data'))


def segmentation(folder):
    return shrink_segmentation(Config.fromfile(CONFIGS / SEGMENTOR), write_ade20k(folder / 'data'))


def generation(folder):
    write_digits(folder / 'data')
    cfg = Config.fromfile(CONFIGS / GENERATOR)
    cfg.model.denoiser.arch = dict(embed_dims=8, depth=3, mlp_ratio=2)
    cfg.train_dataloader.dataset.data_root = str(folder / 'data/train')
    cfg.train_dataloader.batch_size = 8
    return cfg


@pytest.fixture(params=[classification, detection, segmentation, generation])
def config(request, tmp_path_factory):
    """A config at toy size, with two workers and a checkpoint every 3 iterations."""

    def make(folder):
        cfg = request.param(folder)
        cfg.train_dataloader.update(num_workers=2, persistent_workers=False)
        if 'max_iters' in cfg.train_cfg:
            cfg.train_cfg.update(max_iters=24, val_interval=12)
        cfg.default_hooks.checkpoint.update(by_epoch=False, interval=3, save_best=None)
        cfg.dump(folder / 'toy.py')

    return make_once(tmp_path_factory, f'kill_{request.param.__name__}', make) / 'toy.py'


@pytest.mark.slow
def test_a_run_that_is_killed_ends_with_the_same_weights(config, tmp_path):
    options = '--kills', 3, '--work-dir', tmp_path / 'out', '--device', 'cpu'
    out = run_tool('analysis_tools/kill_test.py', config, *options, timeout=600)
    assert 'kills, ' in out and 'weights and states of the optimizer are identical' in out


def test_differences_are_named():
    first = dict(state_dict=dict(w=torch.ones(2)), optimizer=dict(step=[1, torch.zeros(1)]))
    second = dict(state_dict=dict(w=torch.ones(2)), optimizer=dict(step=[1, torch.zeros(1)]))
    assert find_differences(first, second) == []
    second['state_dict']['w'][1] += 1e-7
    second['optimizer']['step'][0] = 2
    second['more'] = 1
    assert find_differences(first, second) == ['more', 'optimizer.step.0', 'state_dict.w']


def test_a_training_that_fails_is_an_error_with_the_end_of_its_log(tmp_path):
    (tmp_path / 'broken.py').write_text('model = dict()')
    options = '--kills', 1, '--work-dir', tmp_path / 'out'
    out = run_tool('analysis_tools/kill_test.py', tmp_path / 'broken.py', *options, code=1)
    assert 'Training failed; the end of' in out and 'no train_dataloader' in out


def test_an_earlier_kill_test_is_not_overwritten(tmp_path):
    (tmp_path / 'whole').mkdir()
    options = '--kills', 1, '--work-dir', tmp_path
    out = run_tool('analysis_tools/kill_test.py', CONFIGS / CLASSIFIER, *options, code=1)
    assert 'has an earlier kill test' in out


@pytest.mark.parametrize('saves', [False, True])
def test_a_kill_test_that_resumes_nothing_is_an_error(tmp_path, monkeypatch, saves):
    class Training(kill_test.Training):
        def start(self, resume=False):
            pass

        def seconds_until_built(self):
            return 0

        def ends_within(self, seconds):
            return seconds is None

        def kill(self):
            if saves:
                self.work_dir.mkdir(exist_ok=True)
                (self.work_dir / 'last_checkpoint').write_text('iter_3.pth')

        def final_state(self):
            return {}

    monkeypatch.setattr(kill_test, 'Training', Training)
    if saves:
        result = kill_test.run_kill_test('config.py', tmp_path, [], 2, 1, seed=0)
        assert (result.kills, result.resumed) == (2, 2)
    else:
        with pytest.raises(UserError, match='before any of the 2 kills'):
            kill_test.run_kill_test('config.py', tmp_path, [], 2, 1, seed=0)
