"""Finding and reading config files."""

import pytest
from mmengine.config import Config
from mmengine.registry import MODELS

from mmwf.commands import test, train
from mmwf.commands._common import read_config
from mmwf.engine.config import compile_backbone, default_work_dir, find_config, load_config
from mmwf.errors import UserError

TINY = 'configs/classification/weightformer-tiny-p16_8xb256_in1k.py'


def test_shipped_configs_are_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_config(TINY).model.backbone.type == 'mmwf.WeightFormer'


def test_a_file_in_the_current_folder_comes_before_a_shipped_config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = tmp_path / TINY
    own.parent.mkdir(parents=True)
    own.write_text('model = dict()')
    assert find_config(TINY).resolve() == own


@pytest.mark.parametrize('folder', ['configs/classification', 'configs/wrong', ''])
def test_an_unknown_config_is_an_error_that_suggests_a_similar_one(folder):
    wrong = f'{folder}/weightformer-tiny_8xb256_in1k.py'
    with pytest.raises(UserError, match=f'There is no config .* Did you mean {TINY}'):
        find_config(wrong)


def test_options_override_the_config():
    cfg = load_config(TINY, {'model.head.num_classes': 7})
    assert cfg.model.head.num_classes == 7


def test_the_work_dir_is_the_argument_else_the_configs_else_named_after_the_config():
    assert default_work_dir(Config(dict(work_dir='of_config')), 'a/b.py', 'argument') == 'argument'
    assert default_work_dir(Config(dict(work_dir='of_config')), 'a/b.py', None) == 'of_config'
    assert default_work_dir(Config(), 'a/b.py', None) == 'work_dirs/b'


def test_only_weightformer_backbones_can_be_compiled():
    cfg = load_config(TINY)
    assert not MODELS.build(cfg.model.backbone).is_compiled
    compile_backbone(cfg)
    assert MODELS.build(cfg.model.backbone).is_compiled
    for name in (
        'classification/deit-tiny-p16_8xb256_in1k',
        'generation/dit_weightformer-small-p2_8xb32-400k_in1k-256px',
    ):
        with pytest.raises(
            UserError, match='Expected a config whose model.backbone is mmwf.Weight'
        ):
            compile_backbone(load_config(f'configs/{name}.py'))


@pytest.mark.parametrize('command', [train, test])
def test_the_option_compile_compiles_the_backbone(command):
    arguments = [TINY, 'CHECKPOINT'][: 1 if command is train else 2]
    assert 'compile' not in read_config(command.parse_args(arguments)).model.backbone
    cfg = read_config(command.parse_args([*arguments, '--compile']))
    assert cfg.model.backbone.compile is True
