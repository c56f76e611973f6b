"""The options of ``mmwf test`` that change the config."""

from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image
from toy import write_coco
from toy_checkpoints import make_checkpoint

from mmwf.commands import test
from mmwf.commands.test import use_tta
from mmwf.errors import UserError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def colours(tmp_path):
    """Test pictures of one colour each, those of different classes with the same names."""
    for i, color in enumerate([(250, 20, 20), (20, 20, 250)]):
        (tmp_path / f'data/{i}').mkdir(parents=True)
        Image.new('RGB', (32, 32), color).save(tmp_path / f'data/{i}/same.png')
    return tmp_path


def test_show_dir_draws_pictures_in_their_colours_with_predicted_and_true_classes(colours):
    config, checkpoint = make_checkpoint(
        '*digits-32px.py', list('01'), colours, test_dataloader__dataset__data_root=str(colours),
        test_dataloader__dataset__data_prefix='data', test_dataloader__batch_size=1,
        model__head__num_classes=2,
    )  # fmt: skip
    show = colours / 'shown'
    test.main([config, checkpoint, '--work-dir', str(colours / 'w'), '--show-dir', str(show)])
    assert sorted(p.relative_to(show).as_posix() for p in show.rglob('*.*')) == [
        '0/same.png', '1/same.png'
    ]  # fmt: skip
    for name, color in (('0', (250, 20, 20)), ('1', (20, 20, 250))):
        drawn = np.asarray(Image.open(show / name / 'same.png'))
        assert drawn.shape[1] == 480 and drawn.shape[0] > 480 + 3 * 15
        assert (drawn[:480] == color).all()  # neither swapped nor covered by text


@pytest.mark.parametrize('threshold', [[], ['--show-score-thr', '0']])
def test_show_dir_draws_ground_truth_beside_detections_above_the_threshold(tmp_path, threshold):
    write_coco(tmp_path, num_images=1, classes=tuple('0123456789'))
    config, checkpoint = make_checkpoint(
        'vitdet*', list('0123456789'), tmp_path, model__test_cfg__rcnn__score_thr=0.0,
        test_dataloader__dataset__data_root=str(tmp_path),
        test_evaluator__ann_file=str(tmp_path / 'annotations/instances_val.json'),
    )  # fmt: skip
    show = tmp_path / 'shown'
    command = [config, checkpoint, '--work-dir', str(tmp_path / 'w'), '--show-dir', str(show)]
    test.main([*command, *threshold])
    drawn = np.asarray(Image.open(show / '0.png')).astype(int)
    truth, predicted = drawn[-320:, :512], drawn[-320:, -512:]  # 64 x 40 pixels, enlarged by 8
    assert drawn.shape[1] == 2 * 512 + 8
    is_colored = [np.abs(panel[..., 0] - panel[..., 2]).max() > 100 for panel in (truth, predicted)]
    # An untrained detector's scores are low; the picture itself has a yellow square.
    picture = np.asarray(Image.open(tmp_path / 'val/0.png').resize((512, 320), 0)).astype(int)
    changed = (np.abs(predicted - picture).max(axis=-1) > 60).mean()
    assert all(is_colored) and (changed > 0.2) == bool(threshold)


def test_the_checkpoint_must_match_exactly_and_is_not_resumed(tmp_path, monkeypatch):
    used = []

    def set_up_run(cfg, launcher):
        used.append(cfg)
        raise InterruptedError

    monkeypatch.setattr(test, 'set_up_run', set_up_run)
    monkeypatch.setattr(test, 'check_data', lambda *args: None)
    (tmp_path / 'a.pth').touch()
    config = next((ROOT / 'configs/classification').glob('*.py'))
    with pytest.raises(InterruptedError):
        test.main([str(config), str(tmp_path / 'a.pth'), '--cfg-options', 'resume=True'])
    (cfg,) = used
    assert cfg.default_hooks.checkpoint_match == dict(type='mmwf.CheckpointMatchHook', strict=True)
    assert cfg.load_from == str(tmp_path / 'a.pth') and cfg.resume is False


def test_a_config_without_test_images_cannot_draw(tmp_path):
    config = next((ROOT / 'configs/generation').glob('*.py'))
    with pytest.raises(UserError, match='--show-dir needs a config of mmpretrain.*mmwf sample'):
        test.main([str(config), 'a.pth', '--show-dir', str(tmp_path)])


def test_a_config_that_cannot_augment_is_an_error():
    cfg = Config.fromfile(next((ROOT / 'configs/generation').glob('*.py')))
    with pytest.raises(UserError, match='--tta needs tta_model and tta_pipeline'):
        use_tta(cfg)
