"""Commands that check data: check-dataset, and train and test before they build anything."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from toy import CLASSES, shrink_detection, write_ade20k, write_coco

from mmwf.commands import test, train
from mmwf.commands.check_dataset import main
from mmwf.errors import UserError

CONFIGS = Path(__file__).parents[2] / 'configs'
DETECTION = 'detection/vitdet-cascade-mask-rcnn_weightformer-tiny-p16_16xb4-amp-lsj-100e_coco.py'


@pytest.fixture
def segmentation(tmp_path):
    """A config of segmentation with toy data."""
    cfg = Config.fromfile(CONFIGS / 'segmentation/example_own-dataset.py')
    root = write_ade20k(tmp_path / 'data')
    cfg.train_dataloader.dataset.data_root = cfg.val_dataloader.dataset.data_root = str(root)
    cfg.model.backbone.init_cfg = None
    return cfg


@pytest.fixture
def detection(tmp_path, monkeypatch):
    """A config of detection with toy data, in the current folder."""
    monkeypatch.chdir(tmp_path)
    return shrink_detection(Config.fromfile(CONFIGS / DETECTION), write_coco(tmp_path))


def test_it_prints_a_report_for_each_loader(segmentation, tmp_path, capsys):
    segmentation.test_dataloader = segmentation.val_dataloader
    segmentation.dump(tmp_path / 'mine.py')
    main([str(tmp_path / 'mine.py'), '--max-images', '2'])
    out = capsys.readouterr().out
    assert 'labels of 2 of them' in out and 'test_dataloader: 4 images' in out


def test_invalid_arguments_are_errors(segmentation, tmp_path):
    (tmp_path / 'other.py').write_text("default_scope = 'mmengine'")
    with pytest.raises(UserError, match='Expected a config of mmpretrain or mmdet or mmseg'):
        main([str(tmp_path / 'other.py')])
    segmentation.dump(tmp_path / 'mine.py')
    with pytest.raises(UserError, match='--max-images .*got -1'):
        main([str(tmp_path / 'mine.py'), '--max-images', '-1'])


def test_train_checks_a_sample_of_the_images(segmentation, tmp_path, monkeypatch):
    def set_up_run(cfg, launcher):
        raise InterruptedError

    monkeypatch.setattr(train, 'set_up_run', set_up_run)
    config = str(tmp_path / 'mine.py')
    segmentation.dump(config)
    path = str(tmp_path / 'data/annotations/validation/1.png')
    cv2.imwrite(path, cv2.imread(path, cv2.IMREAD_UNCHANGED) + np.uint8(100))
    with pytest.raises(UserError, match=r'Labels \[100, 101, 102\]'):
        train.main([config])
    monkeypatch.setattr(train, 'SAMPLE', 2)  # images 0 and 2
    with pytest.raises(InterruptedError):
        train.main([config])


def test_train_stops_before_it_builds_anything(detection):
    detection.dump('toy.py')
    Path('train/0.png').unlink()
    with pytest.raises(UserError, match=r'train/0\.png'):
        train.main(['toy.py', '--work-dir', 'out'])
    assert not Path('out').exists()


def test_test_stops_before_it_builds_anything(detection):
    detection.test_dataloader.dataset.metainfo.classes = CLASSES[::-1]
    detection.dump('toy.py')
    Path('checkpoint.pth').touch()
    with pytest.raises(UserError, match='test_dataloader: .* not in the order of the categories'):
        test.main(['toy.py', 'checkpoint.pth'])
    assert not Path('work_dirs').exists()
