"""What is stored beside metrics."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config, ConfigDict

from mmwf.evaluation.protocol import describe_test
from mmwf.files import hash_file
from mmwf.version import __version__

CONFIGS = Path(__file__).parents[2] / 'configs'
CONFIG = 'vitdet-mask-rcnn_weightformer-tiny-p16_16xb4-amp-lsj-100e_coco.py'
SETTINGS = dict(command='mmwf test a b', num_images=7, processes=2)


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / 'a.pth'
    path.write_bytes(b'weights' * 1_000_000)
    return path


def test_the_hash_is_that_of_the_file(checkpoint):
    assert hash_file(checkpoint) == hashlib.sha256(checkpoint.read_bytes()).hexdigest()


def test_the_protocol_of_detection_has_thresholds_sizes_and_versions(checkpoint):
    cfg = Config.fromfile(CONFIGS / 'detection' / CONFIG)
    protocol = describe_test(cfg, checkpoint, tta=False, **SETTINGS)
    assert protocol == json.loads(json.dumps(protocol))
    assert protocol['test_cfg']['rcnn']['score_thr'] == cfg.model.test_cfg.rcnn.score_thr
    assert [1024, 1024] in [transform.get('scale') for transform in protocol['pipeline']]
    assert protocol['tta'] is False and protocol['batch_size'] == cfg.test_dataloader.batch_size
    assert protocol['versions']['mmwf'] == __version__
    assert protocol['versions']['torch'] == torch.__version__
    assert 'mmdet' in protocol['versions']
    assert {key: protocol[key] for key in SETTINGS} == SETTINGS


def test_the_protocol_of_augmented_testing_has_its_settings_and_those_of_the_model(checkpoint):
    cfg = Config.fromfile(CONFIGS / 'detection' / CONFIG)
    thresholds = cfg.model.test_cfg
    cfg.model = ConfigDict(type='mmwf.InstanceTTAModel', iou_threshold=0.4, module=cfg.model)
    protocol = describe_test(cfg, checkpoint, tta=True, **SETTINGS)
    assert protocol['tta'] == dict(type='mmwf.InstanceTTAModel', iou_threshold=0.4)
    assert protocol['test_cfg'] == json.loads(json.dumps(thresholds))
