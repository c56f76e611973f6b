"""WeightFormer in timm: the same numbers, and what users of timm expect of a model."""

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.data import create_transform, resolve_model_data_config
from timm.optim import param_groups_layer_decay
from timm.utils import freeze
from torch import nn

import mmwf
from mmwf.checkpoints.released_keys import mmwf_to_released
from mmwf.config_files import PUBLISHED
from mmwf.engine.config import load_config
from mmwf.errors import UserError
from mmwf.models import WeightFormer
from mmwf.models.timm_classifier import TimmWeightFormer
from mmwf.timm_models import default_cfgs, to_timm_keys

NAMES = ['weightformer_base', 'weightformer_small', 'weightformer_tiny']
TINY = 'weightformer-tiny-p16_8xb256_in1k'
IMAGES = torch.rand(2, 3, 50, 70, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope='module')
def classifier():
    """mmpretrain's model of WeightFormer-T with a head that tells images apart."""
    torch.manual_seed(0)
    model = mmwf.get_model(TINY, device='cpu')
    nn.init.normal_(model.head.fc.weight)
    nn.init.normal_(model.head.fc.bias)
    return model


@pytest.fixture
def published(classifier, publish):
    publish('RuizeHe/weightformer-t', mmwf_to_released(classifier.state_dict()))


def same(first, second):
    return len(first) == len(second) and all(map(torch.equal, first, second))


# The registry -----------------------------------------------------------------------------------


@pytest.mark.parametrize('imports', ['mmwf, timm', 'timm, mmwf'])
def test_timm_lists_the_models_whichever_is_imported_first(run_python, imports):
    result = run_python(f"import {imports}; print(*timm.list_models('weightformer*'))")
    assert result.stdout.split() == NAMES, result.stderr
    assert result.stderr == ''


def test_the_registry_knows_the_published_weights():
    assert timm.list_pretrained('weightformer*') == [f'{name}.in1k' for name in NAMES]
    addresses = {f'hf://{cfg.default.hf_hub_id}' for cfg in default_cfgs.values()}
    assert addresses == set(PUBLISHED.values())


@pytest.mark.parametrize(
    ('name', 'config'),
    zip(reversed(NAMES), PUBLISHED, strict=True),
)
def test_a_model_is_described_as_in_its_config(name, config):
    with torch.device('meta'):
        model = timm.create_model(name)
    cfg = load_config(config)
    pipeline = {t.type: t for t in cfg.test_dataloader.dataset.pipeline}
    resize, crop = pipeline['Resize'], pipeline['CenterCrop']
    assert f'hf://{model.pretrained_cfg["hf_hub_id"]}' == PUBLISHED[config]
    assert model.default_cfg['input_size'] == (3, crop.crop_size, crop.crop_size)
    data = resolve_model_data_config(model)
    for key in ('mean', 'std'):
        expected = [value / 255 for value in cfg.data_preprocessor[key]]
        assert list(data[key]) == pytest.approx(expected, abs=1e-6)
    first, second, *_ = create_transform(**data).transforms
    assert tuple(first.size) == resize.scale
    assert first.interpolation.value == resize.interpolation
    assert tuple(second.size) == (crop.crop_size, crop.crop_size)


# The same numbers -------------------------------------------------------------------------------


def test_the_scores_are_exactly_those_of_mmpretrains_model(classifier):
    model = timm.create_model('weightformer_tiny').eval()
    model.load_state_dict(to_timm_keys(classifier.state_dict(), model))
    with torch.no_grad():
        assert torch.equal(model(IMAGES), classifier(IMAGES))
        (pooled,) = classifier.extract_feat(IMAGES)
        features = model.forward_features(IMAGES)
        assert features.shape == (2, 192, 4, 5)
        assert torch.equal(model.forward_head(features, pre_logits=True), pooled)
        assert torch.equal(model.forward_head(features), classifier(IMAGES))
        model.reset_classifier(0)
        assert torch.equal(model(IMAGES), pooled)
        model.reset_classifier(0, '')
        assert torch.equal(model(IMAGES), features)


def test_the_released_logits_are_reproduced(golden, golden_arch, released_weights):
    model = TimmWeightFormer(golden_arch, num_classes=10)
    model.load_state_dict(to_timm_keys(released_weights, model))
    with torch.no_grad():
        logits = model.double()(golden['input'].double())
    torch.testing.assert_close(logits, golden['logits'].double(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ('given', 'indices'),
    [({}, (4, 8, 12, 16)), (dict(out_indices=(0, 3)), (0, 3)), (dict(out_indices=2), (15, 16))],
)
def test_feature_maps_are_exactly_those_of_the_backbone(classifier, given, indices):
    model = timm.create_model('weightformer_tiny', features_only=True, **given).eval()
    backbone = WeightFormer('tiny', out_indices=indices, final_norm=False).eval()
    for module in (model.model, backbone):
        state_dict = classifier.backbone.state_dict()
        module.load_state_dict({k: state_dict[k] for k in module.state_dict()})
    with torch.no_grad():
        assert same(model(IMAGES), backbone(IMAGES))
    assert model.feature_info.channels() == [192] * len(indices)
    assert model.feature_info.reduction() == [16] * len(indices)
    assert len(model.model.blocks) == indices[-1] + 1


def test_intermediate_outputs_come_with_and_without_the_last_norm():
    model = TimmWeightFormer(dict(embed_dims=16, depth=4, mlp_ratio=2)).eval()
    nn.init.normal_(model.norm.weight)
    with torch.no_grad():
        features, outs = model.forward_intermediates(IMAGES)
        assert len(outs) == 4
        assert torch.equal(features, model.forward_features(IMAGES))
        normed = model.forward_intermediates(IMAGES, 2, norm=True, intermediates_only=True)
        assert torch.equal(normed[-1], features)
        expected = model.norm(outs[2].permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        torch.testing.assert_close(normed[0], expected)
        nhwc = model.forward_intermediates(
            IMAGES, [1], stop_early=True, output_fmt='NHWC', intermediates_only=True
        )
        assert same(nhwc, [outs[1].permute(0, 2, 3, 1)])
        model.prune_intermediate_layers([1])
        features = model.forward_features(IMAGES)
        assert torch.equal(model(IMAGES), features)
        assert not torch.equal(features, outs[1])  # the last norm is kept
        model.prune_intermediate_layers([1], prune_norm=True)
        assert torch.equal(model.forward_features(IMAGES), outs[1])
    with pytest.raises(ValueError, match="Expected output_fmt to be 'NCHW' or 'NHWC', got 'NLC'"):
        model.forward_intermediates(IMAGES, output_fmt='NLC')


# Weights ----------------------------------------------------------------------------------------


def test_published_weights_are_loaded_from_the_hub(published, classifier):
    model = timm.create_model('weightformer_tiny', pretrained=True).eval()
    with torch.no_grad():
        assert torch.equal(model(IMAGES), classifier(IMAGES))


def test_published_weights_are_adapted_to_classes_and_channels(published, classifier):
    model = timm.create_model('weightformer_tiny', pretrained=True, num_classes=5, in_chans=1)
    ours, theirs = model.state_dict(), classifier.backbone.state_dict()
    key = 'patch_embed.proj.weight'
    torch.testing.assert_close(ours.pop(key), theirs.pop(key).sum(dim=1, keepdim=True))
    assert all(torch.equal(ours[key], value) for key, value in theirs.items())
    assert model(IMAGES[:, :1]).shape == (2, 5)


def test_published_weights_are_loaded_for_feature_maps(published, classifier):
    model = timm.create_model('weightformer_tiny', pretrained=True, features_only=True)
    state_dict = classifier.backbone.state_dict()
    assert all(torch.equal(v, state_dict[k]) for k, v in model.model.state_dict().items())


@pytest.mark.parametrize('form', ['released.pth', 'released.safetensors', 'training.pth'])
def test_a_file_is_loaded(tmp_path, classifier, form):
    weights, file = classifier.state_dict(), str(tmp_path / form)
    if form == 'released.pth':
        torch.save(dict(model=mmwf_to_released(weights)), file)
    elif form == 'released.safetensors':
        save_file(mmwf_to_released(weights), file)
    else:  # timm itself refuses such objects
        meta = dict(time=torch.nn.Identity, epoch=1)
        torch.save(dict(meta=meta, state_dict=weights), file)
    overlay = dict(file=file)
    model = timm.create_model(
        'weightformer_tiny', pretrained=True, pretrained_cfg_overlay=overlay
    ).eval()
    with torch.no_grad():
        assert torch.equal(model(IMAGES), classifier(IMAGES))
    assert 'state_dict' not in model.pretrained_cfg and overlay == dict(file=file)


def test_a_checkpoint_of_timm_is_loaded_again(tmp_path):
    model = timm.create_model('weightformer_tiny', num_classes=3)
    torch.save(model.state_dict(), tmp_path / 'a.pth')
    other = timm.create_model(
        'weightformer_tiny', num_classes=3, checkpoint_path=tmp_path / 'a.pth'
    )
    assert same(list(model.state_dict().values()), list(other.state_dict().values()))


def test_weights_of_another_model_are_an_error(tmp_path, classifier):
    weights = {k: v for k, v in classifier.state_dict().items() if 'blocks.3.' not in k}
    save_file(weights, tmp_path / 'a.safetensors')
    with pytest.raises(UserError, match='do not fit the TimmWeightFormer: .* missing: blocks.3'):
        timm.create_model(
            'weightformer_tiny',
            pretrained=True,
            num_classes=3,
            pretrained_cfg_overlay=dict(file=str(tmp_path / 'a.safetensors')),
        )


# What users of timm expect ----------------------------------------------------------------------


@pytest.mark.parametrize('name', NAMES)
def test_a_model_has_the_attributes_of_timms_models(name):
    with torch.device('meta'):
        model = timm.create_model(name, num_classes=10, drop_path_rate=0.1, in_chans=4)
    width = 192 if 'tiny' in name else 384
    assert model.num_features == model.head_hidden_size == width
    assert (model.num_classes, model.in_chans) == (10, 4)
    assert model.get_classifier() is model.head and model.head.out_features == 10
    assert model.default_cfg is model.pretrained_cfg
    assert model.get_submodule(model.default_cfg['classifier']) is model.head
    assert model.get_submodule(model.default_cfg['first_conv']).in_channels == 4
    assert model.blocks[-1].drop_path.drop_prob == pytest.approx(0.1)
    assert len(model.feature_info) == 17


def test_the_head_has_a_dropout_of_its_own():
    model = timm.create_model('weightformer_tiny', drop_rate=0.5, proj_drop_rate=0.1)
    assert (model.head_drop.p, model.drop_rate) == (0.5, 0.5)
    assert model.blocks[0].mlp.drop.p == 0.1


def test_a_new_classifier_is_where_the_model_is():
    model = TimmWeightFormer(dict(embed_dims=16, depth=2, mlp_ratio=2)).to(torch.bfloat16)
    model.reset_classifier(3)
    assert model.head.weight.dtype == torch.bfloat16
    assert (model.num_classes, model.global_pool) == (3, 'avg')
    for classes, pool in ((3, ''), (3, 'max'), (0, 'max')):
        with pytest.raises(ValueError, match="Expected global_pool to be 'avg', or '' with num_cl"):
            model.reset_classifier(classes, pool)


def test_gradient_checkpointing_gives_the_same_gradients():
    model = TimmWeightFormer(dict(embed_dims=16, depth=3, mlp_ratio=2), num_classes=3)
    gradients = []
    for enable in (False, True):
        model.set_grad_checkpointing(enable)
        assert model.with_cp is enable
        model.zero_grad()
        model(IMAGES).logsumexp(dim=1).sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    torch.testing.assert_close(*gradients)


def test_layer_decay_of_timm_treats_every_block_as_a_layer():
    model = TimmWeightFormer(dict(embed_dims=16, depth=3, mlp_ratio=2), num_classes=3)
    scales = {}
    for group in param_groups_layer_decay(model, layer_decay=0.5):
        scales |= {id(p): group['lr_scale'] for p in group['params']}
    assert set(scales) == {id(p) for p in model.parameters()}
    found = {name.split('.')[0]: scales[id(p)] for name, p in model.named_parameters()}
    assert found == dict(patch_embed=1 / 16, init_norm=1 / 16, blocks=1 / 2, norm=1 / 2, head=1)
    assert [scales[id(block.norm2.weight)] for block in model.blocks[1:2]] == [1 / 4]


def test_timm_freezes_parts_by_name():
    model = TimmWeightFormer(dict(embed_dims=16, depth=2, mlp_ratio=2))
    freeze(model, ['patch_embed', 'blocks.0'])
    trained = {name.split('.')[0] for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {'init_norm', 'blocks', 'norm', 'head'}
    assert not any(p.requires_grad for p in model.blocks[0].parameters())
