"""Reading config files."""

import mmengine
import pytest
import yaml
from mmengine.config import Config
from mmengine.registry import MODELS

from mmwf.commands import test, train
from mmwf.commands._common import read_config
from mmwf.engine.config import compile_backbone, default_work_dir, load_config
from mmwf.errors import UserError

TINY = 'configs/classification/weightformer-tiny-p16_8xb256_in1k.py'


def test_shipped_configs_are_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_config(TINY).model.backbone.type == 'mmwf.WeightFormer'


@pytest.mark.parametrize('suffix', ['.yaml', '.yml'])
def test_a_yaml_config_runs_no_code(tmp_path, suffix):
    marker, path = tmp_path / 'marker', tmp_path / f'config{suffix}'
    path.write_text(f'model: !!python/object/apply:os.mkdir [{marker}]\n')
    with pytest.raises(UserError, match='Cannot read the config .*python/object'):
        load_config(path)
    with pytest.raises(yaml.YAMLError):
        mmengine.load(path)
    (tmp_path / 'child.py').write_text(f"_base_ = ['config{suffix}']")
    with pytest.raises(UserError, match='python/object'):
        load_config(tmp_path / 'child.py')
    assert not marker.exists()


@pytest.mark.parametrize(
    ('name', 'text'),
    [
        ('a.yaml', 'model:\n  type: ViT\n  indices: [1, 2]\n'),
        ('a.json', '{"model": {"type": "ViT", "indices": [1, 2]}}'),
    ],
)
def test_plain_yaml_and_json_configs_are_read(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert load_config(tmp_path / name).model == dict(type='ViT', indices=[1, 2])


@pytest.mark.parametrize('name', ['a.json', 'a.pkl', 'a.yaml', 'a'])
def test_a_config_that_is_not_plain_text_is_an_error(tmp_path, name):
    (tmp_path / name).write_bytes(b'\x80\x02}q\x00.')
    with pytest.raises(UserError, match=r'Expected a \.py config, or'):
        load_config(tmp_path / name)


def test_options_override_the_config():
    cfg = load_config(TINY, {'model.head.num_classes': 7})
    assert cfg.model.head.num_classes == 7


def test_the_work_dir_is_the_argument_else_the_configs_else_named_after_the_config():
    assert default_work_dir(Config(dict(work_dir='of_config')), 'a/b.py', 'argument') == 'argument'
    assert default_work_dir(Config(dict(work_dir='of_config')), 'a/b.py', None) == 'of_config'
    assert default_work_dir(Config(), 'a/b.py', None) == 'work_dirs/b'
    assert default_work_dir(Config(), 'mmwf::a/b.py', None) == 'work_dirs/b'
    assert default_work_dir(Config(), 'b', None) == 'work_dirs/b'


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
