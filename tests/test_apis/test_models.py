"""Building models by name with ``mmwf.get_model``."""

import pytest
import torch

import mmwf
from mmwf.apis import init_model
from mmwf.checkpoints.download import fetch
from mmwf.checkpoints.released_keys import mmwf_to_released
from mmwf.config_files import PUBLISHED
from mmwf.engine.config import load_config
from mmwf.errors import UserError
from mmwf.models import WeightFormer

TINY = 'weightformer-tiny-p16_8xb256_in1k'
DIGITS = 'weightformer-w64d8-p4_1xb64-20e_digits-32px'


def get_model(*args, **kwargs):
    return mmwf.get_model(*args, device='cpu', **kwargs)


@pytest.fixture(scope='module')
def published():
    """Weights for the tiny classifier, with the keys of the released ones."""
    model = get_model(TINY)
    torch.nn.init.normal_(model.head.fc.bias)
    return mmwf_to_released(model.state_dict())


def test_a_model_is_built_by_the_name_the_path_or_the_config():
    for config in (DIGITS, f'configs/quickstart/{DIGITS}.py', load_config(DIGITS)):
        model = get_model(config)
        assert not model.training
        assert model.backbone.embed_dims == 64 and model.head.fc.out_features == 10
        assert model.data_preprocessor.mean.flatten().tolist() == [127.5] * 3


def test_mmwf_imports_get_model_when_it_is_used(run_python):
    result = run_python(
        "import sys, mmwf; print('mmwf.apis' in sys.modules); "
        "print(mmwf.get_model.__module__, hasattr(mmwf, 'nothing'))"
    )
    assert result.stdout.split() == ['False', 'mmwf.apis.models', 'False'], result.stderr


# Weights ----------------------------------------------------------------------------------------


def test_published_weights_are_those_of_the_hub(publish, published):
    publish('RuizeHe/weightformer-t', published)
    model = get_model(TINY, pretrained=True)
    assert torch.equal(model.head.fc.bias, published['head.bias'])
    assert torch.equal(model.backbone.blocks[1].mlp.fc1.weight, published['blocks.1.linear1.w'])


@pytest.mark.parametrize('name', PUBLISHED)
def test_without_the_weights_the_error_names_the_address(publish, name):
    with pytest.raises(UserError, match=f'Cannot download {PUBLISHED[name]}'):
        get_model(name, pretrained=True)


def test_a_revision_of_the_hub_is_chosen(publish, published):
    publish('someone/tiny', published)
    other = dict(published, **{'head.bias': published['head.bias'] + 1})
    publish('someone/tiny', other, revision='v2')
    for revision, expected in (('', published), ('@main', published), ('@v2', other)):
        model = get_model(TINY, pretrained=f'hf://someone/tiny{revision}')
        assert torch.equal(model.head.fc.bias, expected['head.bias'])
    with pytest.raises(UserError, match='Cannot download hf://someone/tiny@v3'):
        fetch('hf://someone/tiny@v3')


def test_a_checkpoint_of_a_training_is_loaded_with_its_classes(tmp_path):
    trained, path = get_model(DIGITS), tmp_path / 'epoch_1.pth'
    meta = dict(dataset_meta=dict(classes=('a', 'b')))
    torch.save(dict(meta=meta, state_dict=trained.state_dict()), path)
    for file in (path, str(path)):
        model = get_model(DIGITS, pretrained=file)
        assert torch.equal(model.head.fc.weight, trained.head.fc.weight)
        assert model.dataset_meta == dict(classes=('a', 'b'))


def test_a_runner_does_not_initialize_loaded_weights_anew(tmp_path):
    torch.save(dict(meta={}, state_dict=get_model(DIGITS).state_dict()), tmp_path / 'a.pth')
    model = get_model(DIGITS, pretrained=tmp_path / 'a.pth')
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.init_weights()  # as the Runner does
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_other_configs_have_no_published_weights():
    for config in ('deit-tiny-p16_8xb256_in1k', DIGITS):
        with pytest.raises(UserError, match=f'for the config {config}, only for {TINY}, '):
            get_model(config, pretrained=True)


def test_a_missing_checkpoint_is_an_error_before_the_model_is_built():
    with pytest.raises(UserError, match='There is no checkpoint nowhere.pth'):
        get_model(TINY, pretrained='nowhere.pth', arch='would be an error')


# Other settings ---------------------------------------------------------------------------------


def test_keywords_set_arguments_of_the_backbone():
    model = get_model(TINY, out_indices=(4, 16), drop_path_rate=0.3, arch='t')
    assert model.backbone.out_indices == (4, 16)
    assert model.backbone.blocks[-1].drop_path.drop_prob == pytest.approx(0.3)
    assert len(model.extract_feat(torch.randn(1, 3, 32, 32))) == 2


def test_keywords_set_arguments_of_the_denoiser_for_generation():
    model = get_model('dit_weightformer-w64d6-p2_1xb64-1500i_digits-8px', in_channels=3)
    assert model.denoiser.patch_embed.proj.in_channels == 3


def test_a_part_of_the_model_is_merged():
    model = get_model(DIGITS, backbone=dict(patch_size=8), head=dict(topk=(1, 5)))
    assert model.backbone.patch_size == 8 and model.backbone.embed_dims == 64
    assert model.head.topk == (1, 5) and model.head.fc.out_features == 10


def test_the_config_that_is_given_does_not_change():
    cfg = load_config(DIGITS)
    before = cfg.pretty_text
    get_model(cfg, num_classes=3, patch_size=8, head=dict(topk=(2,)))
    assert cfg.pretty_text == before


@pytest.mark.parametrize(
    ('name', 'heads'),
    [
        (DIGITS, ['head', 'data_preprocessor']),
        (
            'upernet_weightformer-w64d8-p4_1xb16-1100i_scenes-64px',
            ['decode_head', 'auxiliary_head'],
        ),
        (
            'vitdet-cascade-mask-rcnn_weightformer-w64d8-p4_1xb16-300i_scenes-64px',
            ['roi_head.bbox_head.0', 'roi_head.bbox_head.2', 'roi_head.mask_head.2'],
        ),
    ],
)
def test_num_classes_is_that_of_all_heads(name, heads):
    model = get_model(name, num_classes=3)
    assert [model.get_submodule(head).num_classes for head in heads] == [3] * len(heads)


def test_another_number_of_classes_loads_all_weights_but_the_head_and_says_so(
    publish, published, monkeypatch
):
    logged = []
    monkeypatch.setattr('mmwf.apis.inference.print_log', lambda text, **kwargs: logged.append(text))
    publish('RuizeHe/weightformer-t', published)
    model = get_model(TINY, pretrained=True, num_classes=7)
    assert model.head.fc.out_features == 7
    backbone = init_model(load_config(TINY), fetch(PUBLISHED[TINY]).as_posix(), 'cpu').backbone
    for key, value in model.backbone.state_dict().items():
        assert torch.equal(value, backbone.state_dict()[key])
    assert model.dataset_meta is None
    (text,) = logged
    assert text.startswith('hf://RuizeHe/weightformer-t: loaded all weights but head.fc.weight, he')


def test_the_same_number_of_classes_loads_the_head_too(publish, published):
    publish('RuizeHe/weightformer-t', published)
    model = get_model(TINY, pretrained=True, num_classes=1000)
    assert torch.equal(model.head.fc.bias, published['head.bias'])


@pytest.mark.parametrize('overrides', [dict(in_channels=1), dict(dynamic_blocks='none')])
def test_weights_of_another_backbone_are_an_error(publish, published, overrides):
    publish('RuizeHe/weightformer-t', published)
    with pytest.raises(UserError, match='does not fit the model of the config'):
        get_model(TINY, pretrained=True, num_classes=7, **overrides)


@pytest.mark.parametrize(
    ('wrong', 'right'),
    [('drop_path', 'drop_path_rate'), ('numclasses', 'num_classes'), ('heads', 'head')],
)
def test_an_unknown_keyword_is_an_error_that_suggests_a_similar_one(wrong, right):
    with pytest.raises(UserError, match=f'WeightFormer, got {wrong}. Did you mean {right}') as e:
        get_model(TINY, **{wrong: 1})
    assert len(str(e.value).splitlines()) == 1


def test_the_arguments_of_other_backbones_are_known():
    assert (
        get_model('deit-tiny-p16_8xb256_in1k', qkv_bias=False).backbone.layers[0].attn.qkv.bias
        is None
    )
    with pytest.raises(UserError, match='its backbone VisionTransformer, got frozen_stage'):
        get_model('deit-tiny-p16_8xb256_in1k', frozen_stage=1)


@pytest.mark.parametrize(
    'name',
    [
        'mask2former_weightformer-tiny-p16_8xb2-160k_ade20k-512x512',
        'mask2former_weightformer-tiny-p16_8xb2-lsj-50e_coco',
    ],
)
def test_num_classes_that_other_settings_depend_on_is_an_error(name):
    with pytest.raises(UserError, match='Write a config that inherits from .*' + name):
        get_model(name, num_classes=3)


def test_a_wrong_value_is_an_error_of_the_backbone():
    with pytest.raises(ValueError, match='Expected drop_path_rate in'):
        get_model(TINY, drop_path_rate=2)
    assert WeightFormer.arch_zoo['tiny']['drop_path_rate'] == 0
