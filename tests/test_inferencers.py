"""The inferencers of mmpretrain, mmdet and mmseg run on the shipped configs."""

import numpy as np
import pytest
from mmengine.registry import DefaultScope
from PIL import Image
from toy_checkpoints import make_checkpoint

DIGITS = [str(i) for i in range(10)]


@pytest.fixture
def picture(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / 'picture.png')
    return str(tmp_path / 'picture.png')


def test_mmpretrain_classifies_a_picture_and_extracts_its_features(tmp_path, picture):
    from mmpretrain import FeatureExtractor, ImageClassificationInferencer

    config, checkpoint = make_checkpoint('*digits-32px.py', DIGITS, tmp_path)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        inferencer = ImageClassificationInferencer(config, pretrained=checkpoint, device='cpu')
        (result,) = inferencer(picture)
        extractor = FeatureExtractor(config, pretrained=checkpoint, device='cpu')
        ((features,),) = extractor(picture)
    assert result['pred_scores'].shape == (10,) and result['pred_class'] in DIGITS
    assert features.shape == (64,)


def test_mmdet_detects_in_a_picture(tmp_path, picture):
    from mmdet.apis import DetInferencer

    config, checkpoint = make_checkpoint('vitdet*', DIGITS, tmp_path)
    inferencer = DetInferencer(config, checkpoint, device='cpu', show_progress=False)
    (result,) = inferencer(picture)['predictions']
    assert result.keys() >= {'labels', 'scores', 'bboxes'}


def test_mmseg_segments_a_picture(tmp_path, picture):
    from mmseg.apis import MMSegInferencer

    config, checkpoint = make_checkpoint('upernet*', ['background', *DIGITS], tmp_path)
    inferencer = MMSegInferencer(config, checkpoint, device='cpu', show_progress=False)
    assert inferencer(picture)['predictions'].shape == (64, 64)


@pytest.mark.parametrize('first', ['mmwf', 'mmcv.transforms', 'mmpretrain.datasets.transforms'])
def test_the_plain_name_is_our_loader_in_every_scope(run_python, first):
    code = (
        f'import {first}\n'
        'import mmwf\n'
        'from mmengine.config import Config\n'
        'from mmengine.dataset import Compose\n'
        'from mmengine.registry import DefaultScope\n'
        'from mmwf.libraries import import_task_library\n'
        "for scope in ('mmpretrain', 'mmdet', 'mmseg', 'mmengine'):\n"
        '    import_task_library(Config(dict(default_scope=scope)))\n'
        '    with DefaultScope.overwrite_default_scope(scope):\n'
        "        (step,) = Compose([dict(type='LoadImageFromFile')]).transforms\n"
        '    print(type(step).__module__, step.max_pixels)\n'
    )
    result = run_python(code)
    assert result.stdout.split()[-8:] == 4 * ['mmwf.datasets.transforms', '89478485'], result.stderr
