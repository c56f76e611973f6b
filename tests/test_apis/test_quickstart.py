"""The parts of the quick start that take no minutes; the detector at two iterations."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import cv2
import matplotlib.image
import numpy as np
import pytest
from pycocotools import mask as rle

from mmwf.apis import pictures, quickstart
from mmwf.apis.environment import UserError
from mmwf.datasets.scenes import make_scenes, write_scenes

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    root = tmp_path_factory.mktemp('data')
    write_scenes(root, ['coco'], {'train': 8, 'val': 5})
    return root / 'coco'


def run_tool(*args):
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')]))
    env = dict(os.environ, PYTHONPATH=path, OMP_NUM_THREADS='1')
    command = [sys.executable, *map(str, args)]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout + done.stderr


def test_a_task_that_starts_from_another_comes_after_it(tmp_path, monkeypatch):
    monkeypatch.setattr(quickstart, 'OUT', tmp_path)
    both = ['classification', 'detection']
    assert quickstart._in_order(['detection']) == both
    assert quickstart._in_order(['detection', 'classification']) == both
    assert quickstart._in_order(both) == both


def test_the_judge_of_generated_images_is_trained_before_they_are_made(tmp_path, monkeypatch):
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


def test_an_unknown_task_is_refused_before_anything_runs():
    with pytest.raises(UserError, match='classification, detection.*got dtection'):
        quickstart.main(['classification', 'dtection'])


def test_the_picture_shows_the_truth_beside_the_predictions(tmp_path, monkeypatch):
    draw, drawn = pictures._draw_objects, []
    monkeypatch.setattr(pictures, '_draw_objects', lambda *a: draw(*a) or drawn.append(a[2]))
    write_scenes(tmp_path, ['coco'], {'val': 8})
    ann_file = tmp_path / 'coco/annotations/instances_val.json'
    shown = list(make_scenes('val', 8))[4:]  # the last one has a crowd
    predictions = []
    for image_id, scene in enumerate(shown, 5):
        encoded = rle.encode(np.asfortranarray(scene.soft, np.uint8))
        predictions.append(
            dict(
                img_id=image_id,
                img_path=str(tmp_path / f'coco/val/{image_id:06d}.jpg'),
                pred_instances=dict(
                    bboxes=np.array([[2.0, 3, 20, 30], [0, 0, 9, 9]]),
                    labels=np.array([4, 9]),
                    scores=np.array([0.9, 0.2]),
                    masks=[encoded, encoded],
                ),
            )
        )
    png = tmp_path / 'detection.png'
    pictures.draw_detection(predictions, png, ann_file=str(ann_file), rows=2, columns=2)
    image = matplotlib.image.imread(png)
    assert image.shape[0] > 300 and image.shape[1] > 600 and image.std() > 0.1
    for scene, truth, found in zip(shown, drawn[::2], drawn[1::2], strict=True):
        for instance, (mask, _, label, caption) in zip(scene.instances, truth, strict=True):
            assert np.array_equal(mask, instance.mask)
            assert label == (-1 if instance.is_crowd else instance.digit)
            assert caption == str(instance.digit) + ' crowd' * instance.is_crowd
        ((mask, *rest),) = found  # the one with a high score
        assert np.array_equal(mask, scene.soft) and rest == [(2, 3, 18, 27), 4, '4 90%']


def test_the_picture_shows_classes_of_pixels_under_their_colors(scenes, tmp_path):
    size, path = (88, 88), scenes / 'val/000001.jpg'
    truth, predicted = np.full((1, *size), 3), np.full((1, *size), 10)
    truth[:, 44:] = 255
    sample = dict(
        img_path=str(path), gt_sem_seg=dict(data=truth), pred_sem_seg=dict(data=predicted)
    )
    png = tmp_path / 'segmentation.png'
    classes = ('background', *'0123456789')
    pictures.draw_segmentation([sample], png, classes=classes, rows=2, columns=2)
    image = np.rint(matplotlib.image.imread(png)[..., :3] * 255)
    height, width = image.shape[:2]
    half = image[: height // 2, : width // 2]  # the first sample
    third = width // 6
    spans = []
    for panel, color in ((1, [44, 160, 44]), (2, [23, 190, 207])):  # tab10's for 2 and 9
        rows, columns = np.nonzero((half == color).all(axis=2))
        assert panel * third < columns.min() and columns.max() < (panel + 1) * third
        spans.append(np.ptp(rows))
    assert spans[0] < 0.6 * spans[1]  # below, the truth is ignored


def test_the_detector_trains_in_two_processes_is_tested_and_shown(scenes, tmp_path):
    config = quickstart.TASKS['detection'].config
    out, shown = tmp_path / 'out', tmp_path / 'shown'
    options = [
        f'train_dataloader.dataset.data_root={scenes}',
        f'test_dataloader.dataset.data_root={scenes}',
        f'test_evaluator.ann_file={scenes}/annotations/instances_val.json',
        'train_cfg.max_iters=2',
        'train_dataloader.batch_size=4',
        # A detector that has learnt nothing finds everything everywhere, with low scores.
        'model.test_cfg.rcnn.score_thr=0.0',
        'model.test_cfg.rcnn.max_per_img=10',
    ]
    two = ('-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', 2)
    train = (*two, 'tools/train.py', config, '--launcher', 'pytorch', '--work-dir', out)
    run_tool(*train, '--no-validate', '--cfg-options', *options)
    checkpoint = (out / 'last_checkpoint').read_text()
    test = ('tools/test.py', config, checkpoint, '--work-dir', out, '--cfg-options', *options)
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
        # Truth to the left, prediction to the right.
        picture = cv2.imread(str(shown / Path(sample['img_path']).name))
        height, width = sample['ori_shape']
        assert picture.shape == (height, 2 * width, 3)

    augmented_file = tmp_path / 'augmented.json'
    run_tool(*test, '--tta', '--out', augmented_file)
    assert json.loads(augmented_file.read_text()).keys() == metrics.keys()


def test_without_an_argument_all_tasks_run_in_their_order(tmp_path, monkeypatch):
    ran = []
    monkeypatch.setattr(quickstart, 'OUT', tmp_path)
    monkeypatch.setattr(quickstart, 'run_task', lambda name, task: ran.append(name) or {})
    quickstart.main([])
    assert ran == ['classification', 'detection', 'segmentation', 'generation']
