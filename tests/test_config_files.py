"""Finding the shipped configs by path and by name, also from MMEngine and mmpretrain."""

from pathlib import Path

import mmengine.hub
import mmpretrain
import pytest
import torch
from mmengine.config import Config

import mmwf
from mmwf.config_files import PUBLISHED, find_config, published_weights, shipped_configs
from mmwf.engine.config import load_config
from mmwf.errors import UserError
from mmwf.libraries import import_task_library

ROOT = Path(__file__).parents[1]
NAME = 'weightformer-tiny-p16_8xb256_in1k'
TINY = f'configs/classification/{NAME}.py'
FILES = [p for p in (ROOT / 'configs').rglob('*.py') if '_base_' not in p.parts]


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


@pytest.mark.parametrize('folder', ['configs/classification', 'configs/wrong', ''])
def test_an_unknown_path_in_the_package_is_an_error_that_suggests_a_similar_one(folder):
    with pytest.raises(UserError, match=f'Did you mean mmwf::classification/{NAME}.py'):
        find_config(f'mmwf::{folder}/weightformer-tiny_8xb256_in1k.py')


def test_all_shipped_configs_are_listed_and_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = mmwf.list_models()
    assert len(names) == len(set(names)) == len(FILES) > 50
    assert {find_config(name) for name in names} == set(FILES)
    for file in FILES:
        path = file.relative_to(ROOT / 'configs')
        for prefix in ('mmwf::', 'configs/'):
            assert find_config(f'{prefix}{path}') == file


def test_the_pattern_of_list_models_is_that_of_a_shell():
    assert mmwf.list_models('upernet_deit-*-p16_8xb2*') == [
        'upernet_deit-small-p16_8xb2-160k_ade20k-512x512',
        'upernet_deit-tiny-p16_8xb2-160k_ade20k-512x512',
    ]
    assert mmwf.list_models('resnet') == []


def test_the_package_may_stand_in_front_of_a_name():
    for text in (NAME, f'mmwf::{NAME}', f'mmwf::{NAME}.py', f'mmwf::classification/{NAME}.py'):
        assert find_config(text) == ROOT / TINY


def test_a_name_with_the_suffix_of_a_file_is_a_file():
    """Else a mistyped path of a copy would silently be the shipped config."""
    with pytest.raises(UserError, match=f'There is no config {NAME}.py. Did you mean {TINY}'):
        find_config(f'{NAME}.py')


def test_a_file_of_the_same_name_as_a_shipped_config_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path(NAME).write_text('model = dict()')
    assert find_config(NAME).resolve() == tmp_path / NAME


def test_files_of_the_same_name_are_told_apart_by_their_folders():
    assert find_config('detection/example_own-dataset').parent.name == 'detection'
    with pytest.raises(
        UserError, match='detection/example_own-dataset or segmentation/example_own-dataset'
    ):
        find_config('example_own-dataset')


@pytest.mark.parametrize('name', ['weightformer-tiny', 'weightformer_tiny_p16'])
def test_an_unknown_name_is_an_error_of_one_line_that_suggests_names(name):
    with pytest.raises(UserError, match=f'There is no config {name}. Did you mean') as error:
        find_config(name)
    assert NAME in str(error.value) and '.py' not in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_a_name_like_no_other_is_an_error_that_says_where_the_names_are():
    with pytest.raises(UserError, match=r'There is no config zzz. mmwf.list_models\(\) in Python'):
        find_config('zzz')


# MMEngine and the libraries ---------------------------------------------------------------------


def test_a_config_inherits_from_a_shipped_one_in_any_folder(tmp_path):
    path = tmp_path / 'mine.py'
    path.write_text(f"_base_ = 'mmwf::classification/{NAME}.py'\nmodel = dict(head=dict(topk=2))")
    mine, shipped = Config.fromfile(path), load_config(TINY)
    shipped.model.head.topk = 2
    assert mine.to_dict() == shipped.to_dict()  # without a scope of the package


def test_a_config_inherits_from_a_part_of_the_shipped_ones(tmp_path):
    (tmp_path / 'mine.py').write_text("_base_ = 'mmwf::_base_/models/fcn_weightformer.py'")
    assert Config.fromfile(tmp_path / 'mine.py').model.decode_head.num_classes == 150


def test_a_base_that_does_not_exist_is_an_error_that_suggests_a_similar_one(tmp_path):
    path = tmp_path / 'mine.py'
    path.write_text("_base_ = 'mmwf::classification/weightformer-tiny.py'")
    with pytest.raises(UserError, match=f'Did you mean mmwf::classification/{NAME}.py'):
        load_config(path)


@pytest.mark.parametrize(
    ('base', 'expected'),
    [
        ('mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py', 'MaskRCNN'),
        ('mmseg::segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py', 'EncoderDecoder'),
        ('mmpretrain::resnet/resnet50_8xb32_in1k.py', 'ImageClassifier'),
    ],
)
def test_a_config_inherits_from_one_of_a_library(tmp_path, base, expected):
    (tmp_path / 'mine.py').write_text(f'_base_ = {base!r}')
    cfg = Config.fromfile(tmp_path / 'mine.py')
    assert (cfg.model.type, cfg.model._scope_) == (expected, base.partition('::')[0])
    assert mmengine.hub.get_config(base).model.type == expected


def test_the_hub_of_mmengine_reads_shipped_configs():
    cfg = mmengine.hub.get_config(f'mmwf::classification/{NAME}.py', pretrained=True)
    assert cfg.model_path == 'hf://RuizeHe/weightformer-t'
    assert cfg.model == load_config(TINY).model
    with pytest.raises(UserError, match='No weights are published for the config deit-tiny'):
        mmengine.hub.get_config(
            'mmwf::classification/deit-tiny-p16_8xb256_in1k.py', pretrained=True
        )


def test_classifiers_are_in_the_model_zoo_of_mmpretrain(tmp_path):
    names = [n for n, file in shipped_configs().items() if file.parent.name == 'classification']
    assert set(names) <= set(mmpretrain.list_models())
    static = 'weightformer-tiny-p16_static_8xb256_in1k'
    import_task_library(load_config(TINY))
    weights = mmwf.get_model(static, device='cpu').state_dict()
    torch.save(dict(meta={}, state_dict=weights), tmp_path / 'a.pth')
    model = mmpretrain.get_model(static, pretrained=str(tmp_path / 'a.pth'))
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())
    assert model._metainfo.weights is None
    assert mmpretrain.apis.model.ModelHub.get(NAME).weights == PUBLISHED[NAME]


def test_weights_are_published_for_shipped_configs_only(tmp_path):
    assert {find_config(name).parent.name for name in PUBLISHED} == {'classification'}
    assert published_weights(ROOT / TINY) == 'hf://RuizeHe/weightformer-t'
    (tmp_path / f'{NAME}.py').write_text('')
    for file in (tmp_path / f'{NAME}.py', None):
        with pytest.raises(UserError, match=f'No weights are published for .*only for {NAME}'):
            published_weights(file)
