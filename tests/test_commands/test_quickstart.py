"""``mmwf quickstart``: the order of its tasks, and its detector at two iterations."""

import json
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import pytest
from helpers import run, run_tool
from pycocotools import mask as rle

from mmwf.checkpoints import read_pointer
from mmwf.commands import quickstart
from mmwf.datasets.toy.scenes import write_scenes
from mmwf.errors import UserError
from mmwf.visualization.labelled import enlargement


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    root = tmp_path_factory.mktemp('data')
    write_scenes(root, ['coco'], {'train': 8, 'val': 5})
    return root / 'coco'


def test_a_task_comes_after_the_one_it_starts_from(tmp_path, monkeypatch):
    monkeypatch.setattr(quickstart, 'OUT', tmp_path)
    both = ['classification', 'detection']
    assert quickstart._in_order(['detection']) == both
    assert quickstart._in_order(['detection', 'classification']) == both
    assert quickstart._in_order(both) == both


def test_the_classifier_of_generated_images_is_trained_first(tmp_path, monkeypatch):
    monkeypatch.setattr(quickstart, 'OUT', tmp_path)
    assert quickstart._in_order(['generation']) == ['classification', 'generation']


def test_a_trained_task_is_not_trained_again_for_another(tmp_path, monkeypatch):
    monkeypatch.setattr(quickstart, 'OUT', tmp_path)
    checkpoint = tmp_path / 'classification' / 'epoch_1.pth'
    checkpoint.parent.mkdir()
    (checkpoint.parent / 'last_checkpoint').write_text(str(checkpoint))
    assert quickstart._in_order(['detection']) == ['classification', 'detection']
    checkpoint.touch()
    assert quickstart._in_order(['detection']) == ['detection']
    assert quickstart._last_checkpoint('classification') == str(checkpoint)


def test_an_unknown_task_is_an_error_before_anything_runs():
    with pytest.raises(UserError, match='classification, detection.*got dtection'):
        quickstart.main(['classification', 'dtection'])


def test_the_detector_trains_in_two_processes_is_tested_and_drawn(scenes, tmp_path):
    config = quickstart.TASKS['detection'].config
    out, shown = tmp_path / 'out', tmp_path / 'shown'
    options = [
        f'train_dataloader.dataset.data_root={scenes}',
        f'test_dataloader.dataset.data_root={scenes}',
        f'test_evaluator.ann_file={scenes}/annotations/instances_val.json',
        'train_cfg.max_iters=2',
        'model.backbone.init_cfg=None',
        'train_dataloader.batch_size=4',
        # An untrained detector finds objects everywhere, with low scores.
        'model.test_cfg.rcnn.score_thr=0.0',
        'model.test_cfg.rcnn.max_per_img=10',
    ]
    two = (sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', 2)
    train = (*two, 'tools/train.py', config, '--launcher', 'pytorch', '--work-dir', out)
    run(*train, '--no-validate', '--cfg-options', *options, OMP_NUM_THREADS='1')
    checkpoint = read_pointer(out)
    test = ('test.py', config, checkpoint, '--work-dir', out, '--cfg-options', *options)
    metrics_file, results_file = tmp_path / 'metrics.json', tmp_path / 'results.pkl'
    printed = run_tool(*test, '--out', metrics_file, results_file, '--show-dir', shown)
    metrics = json.loads(metrics_file.read_text())
    assert {'coco/bbox_mAP_50', 'coco/segm_mAP_50'} <= set(metrics)
    assert all(name in printed for name in ('coco/bbox_mAP_50', 'coco/segm_mAP_50'))
    results = pickle.loads(results_file.read_bytes())
    assert [sample['img_id'] for sample in results] == [1, 2, 3, 4, 5]
    for sample in results:
        masks = rle.decode(sample['pred_instances']['masks'])
        assert masks.shape == (*sample['ori_shape'], len(sample['pred_instances']['scores']))
        # Ground truth to the left, prediction to the right.
        picture = cv2.imread(str(shown / Path(sample['img_path']).name))
        height, width = (side * enlargement(*sample['ori_shape']) for side in sample['ori_shape'])
        assert picture.shape[0] > height and picture.shape[1] == 2 * width + 8

    augmented_file = tmp_path / 'augmented.json'
    run_tool(*test, '--tta', '--out', augmented_file)
    assert json.loads(augmented_file.read_text()).keys() == metrics.keys()


def test_without_arguments_all_tasks_run_in_order(tmp_path, monkeypatch):
    ran = []
    monkeypatch.setattr(quickstart, 'OUT', tmp_path)
    monkeypatch.setattr(quickstart, 'run_task', lambda name, task, short: ran.append(name) or {})
    quickstart.main([])
    assert ran == ['classification', 'detection', 'segmentation', 'generation']


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """Replaces the commands of a task by a record of their arguments and made-up results."""
    ran = []

    def run_command(name, config, *arguments):
        ran.append((name, *map(str, arguments)))
        work_dir = tmp_path / task
        work_dir.mkdir(exist_ok=True)
        checkpoint = work_dir / 'last.pth'
        checkpoint.touch()
        (work_dir / 'last_checkpoint').write_text(str(checkpoint))
        metrics = {source: 50.0 for source, _ in quickstart.TASKS[task].metrics.values()}
        (work_dir / 'metrics.json').write_text(json.dumps(metrics))
        (work_dir / 'predictions.pkl').write_bytes(pickle.dumps([]))
        return 7.0

    def run_task(name, short=False):
        nonlocal task
        task = name
        no_files = dict(prepare=lambda: None, draw=lambda *args: None)
        entry = quickstart.run_task(name, replace(quickstart.TASKS[name], **no_files), short)
        return entry, ran[-2:]

    task = None
    monkeypatch.setattr(quickstart, 'OUT', tmp_path)
    monkeypatch.setattr(quickstart, '_run_command', run_command)
    return run_task


def test_the_summary_gives_shares_between_0_and_1(commands):
    assert commands('classification')[0] == dict(accuracy_top1=0.5, seconds=7.0)
    assert commands('segmentation')[0] == dict(mIoU=0.5, mAcc=0.5, seconds=7.0)


def test_tasks_use_the_classifier_that_was_trained_here(commands, tmp_path):
    commands('classification')
    classifier = tmp_path / 'classification' / 'last.pth'
    _, (train, test) = commands('detection')
    assert train[-1] == f'model.backbone.init_cfg.checkpoint={classifier}'
    assert test[1] == str(tmp_path / 'detection' / 'last.pth')
    _, (train, test) = commands('generation', short=True)
    assert train[-1] == 'train_cfg.max_iters=2'
    assert test[-1] == f'test_evaluator.extractor.checkpoint={classifier}'


def test_a_command_that_fails_ends_the_quick_start(monkeypatch):
    failed = subprocess.CompletedProcess([], returncode=1)
    monkeypatch.setattr(quickstart.subprocess, 'run', lambda *args, **kwargs: failed)
    with pytest.raises(UserError, match='mmwf train failed; see its last lines above'):
        quickstart._run_command('train', 'a.py')
