"""The options of ``mmwf test`` that change the config."""

from pathlib import Path

import pytest
from mmengine.config import Config

from mmwf.commands import test
from mmwf.commands.test import show_predictions, use_tta
from mmwf.errors import UserError

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    'runtime, expected',
    [
        ('classification', dict(enable=True, interval=1, out_dir='{}')),
        ('detection', dict(draw=True, interval=1, test_out_dir='{}')),
    ],
)
def test_show_dir_draws_every_image_into_the_folder(runtime, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg = Config.fromfile(ROOT / f'configs/_base_/runtime/{runtime}.py')
    show_predictions(cfg, 'shown')
    hook = dict(cfg.default_hooks.visualization)
    del hook['type']
    folder = str(tmp_path / 'shown')
    assert hook == {k: folder if v == '{}' else v for k, v in expected.items()}


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


def test_a_config_that_cannot_draw_is_an_error():
    with pytest.raises(UserError, match='default_hooks.visualization.*got None'):
        show_predictions(Config(dict(default_hooks=dict())), 'shown')


def test_a_config_that_cannot_augment_is_an_error():
    cfg = Config.fromfile(next((ROOT / 'configs/generation').glob('*.py')))
    with pytest.raises(UserError, match='--tta needs tta_model and tta_pipeline'):
        use_tta(cfg)
