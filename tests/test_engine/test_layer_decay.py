"""Layer-wise learning rate decay: learning rate and weight decay of each parameter."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from torch import nn

import mmwf  # noqa: F401
from mmwf.libraries import import_task_library
from mmwf.models import WeightFormer

LR, DECAY = 1e-3, 0.1


def groups_of(model, **paramwise_cfg):
    """Builds the optimizer; returns its groups, and {parameter name: (lr / LR, decay)}."""
    wrapper = build_optim_wrapper(
        model,
        dict(
            optimizer=dict(type='AdamW', lr=LR, weight_decay=DECAY),
            constructor='mmwf.LayerDecayOptimWrapperConstructor',
            paramwise_cfg=paramwise_cfg,
        ),
    )
    groups = wrapper.optimizer.param_groups
    names = {p: name for name, p in model.named_parameters()}
    of_parameter = {
        names[p]: (round(group['lr'] / LR, 9), group['weight_decay'])
        for group in groups
        for p in group['params']
    }
    assert sum(len(group['params']) for group in groups) == len(of_parameter)  # each one once
    return groups, of_parameter


class Classifier(nn.Module):
    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(8, 2)


@pytest.fixture
def model():
    arch = dict(embed_dims=8, depth=2, mlp_ratio=1)
    return Classifier(WeightFormer(arch, dynamic_blocks='every-third'))


#: Four layers: the stem, two blocks, and the rest. The rate is 0.5.
EXPECTED = {
    'backbone.patch_embed.proj.weight': (0.125, 0.1),
    'backbone.patch_embed.proj.bias': (0.125, 0.0),
    'backbone.init_norm.weight': (0.125, 0.0),
    'backbone.init_norm.bias': (0.125, 0.0),
    'backbone.blocks.0.dwconv.weight': (0.25, 0.1),
    'backbone.blocks.0.dwconv.bias': (0.25, 0.0),
    'backbone.blocks.0.norm2.weight': (0.25, 0.0),
    'backbone.blocks.0.norm2.bias': (0.25, 0.0),
    'backbone.blocks.0.mlp.fc1.weight': (0.25, 0.1),
    'backbone.blocks.0.mlp.fc1.bias': (0.25, 0.0),
    'backbone.blocks.0.mlp.fc2.weight': (0.25, 0.1),
    'backbone.blocks.0.mlp.fc2.bias': (0.25, 0.0),
    'backbone.blocks.1.dwconv.weight': (0.5, 0.1),
    'backbone.blocks.1.dwconv.bias': (0.5, 0.0),
    'backbone.blocks.1.dwconv.predictor.mlp.0.weight': (0.5, 0.1),
    'backbone.blocks.1.dwconv.predictor.mlp.0.bias': (0.5, 0.0),
    'backbone.blocks.1.dwconv.predictor.mlp.2.weight': (0.5, 0.1),
    'backbone.blocks.1.norm1.weight': (0.5, 0.0),
    'backbone.blocks.1.norm1.bias': (0.5, 0.0),
    'backbone.blocks.1.norm2.weight': (0.5, 0.0),
    'backbone.blocks.1.norm2.bias': (0.5, 0.0),
    'backbone.blocks.1.mlp.fc1.weight': (0.5, 0.1),
    'backbone.blocks.1.mlp.fc1.bias': (0.5, 0.0),
    'backbone.blocks.1.mlp.fc1.predictor.u': (0.5, 0.1),
    'backbone.blocks.1.mlp.fc1.predictor.v': (0.5, 0.1),
    'backbone.blocks.1.mlp.fc1.predictor.proj.weight': (0.5, 0.1),
    'backbone.blocks.1.mlp.fc1.predictor.proj.bias': (0.5, 0.0),
    'backbone.blocks.1.mlp.fc2.weight': (0.5, 0.1),
    'backbone.blocks.1.mlp.fc2.bias': (0.5, 0.0),
    'backbone.norm.weight': (1.0, 0.0),
    'backbone.norm.bias': (1.0, 0.0),
    'head.weight': (1.0, 0.1),
    'head.bias': (1.0, 0.1),  # outside the backbone
}


def test_every_parameter_gets_its_rate_and_decay(model):
    groups, of_parameter = groups_of(model, layer_decay_rate=0.5, backbone_flat_decay_mult=0.0)
    assert of_parameter == EXPECTED
    assert len(groups) == len(set(EXPECTED.values())) == 8  # merged
    assert groups[0]['name'] == 'lr=0.000125, weight_decay=0.1'


def test_detectron2s_rule_excludes_only_layer_norms_from_decay(model):
    model.neck = mmwf.models.LayerNorm2d(8)
    _, of_parameter = groups_of(model, layer_decay_rate=1.0, norm_decay_mult=0.0)
    for name, (_, decay) in of_parameter.items():
        assert decay == (0.0 if 'norm' in name else DECAY), name
    assert of_parameter['neck.weight'] == of_parameter['neck.bias'] == (1.0, DECAY)


def test_custom_keys_multiply_with_the_layer(model):
    key = 'backbone.blocks.0.norm2'
    groups, of_parameter = groups_of(
        model, layer_decay_rate=0.5, custom_keys={key: dict(lr_mult=0.1, decay_mult=0.5)}
    )
    assert of_parameter[f'{key}.weight'] == (0.025, 0.05)
    assert of_parameter['backbone.blocks.0.dwconv.bias'] == (0.25, 0.1)
    assert len(groups) == 5


def test_a_rate_of_one_without_exceptions_is_a_single_group(model):
    groups, _ = groups_of(model, layer_decay_rate=1.0)
    assert len(groups) == 1


def test_frozen_parameters_are_left_out():
    arch = dict(embed_dims=8, depth=2, mlp_ratio=1)
    _, of_parameter = groups_of(Classifier(WeightFormer(arch, frozen_stages=1)), layer_decay_rate=1)
    assert not any(
        name.startswith(('backbone.patch', 'backbone.blocks.0')) for name in of_parameter
    )


def test_a_bad_rate_or_backbone_is_an_error(model):
    for bad in (dict(), dict(layer_decay_rate=0), dict(layer_decay_rate='0.7')):
        with pytest.raises(ValueError, match=r'layer_decay_rate to be a number in \(0, 1\]'):
            groups_of(model, **bad)
    model.backbone = nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r'Classifier.backbone to have get_layer_depth.*Linear'):
        groups_of(model, layer_decay_rate=0.5)
    with pytest.raises(ValueError, match='got no backbone'):
        groups_of(nn.Linear(2, 2), layer_decay_rate=0.5)


BACKBONE = dict(type='mmwf.WeightFormer', arch=dict(embed_dims=8, depth=2, mlp_ratio=1))
MODEL_CONFIGS = {
    'mmpretrain': dict(
        type='ImageClassifier',
        backbone=dict(BACKBONE, out_type='avg_featmap'),
        head=dict(type='LinearClsHead', num_classes=2, in_channels=8),
    ),
    'mmdet': dict(
        type='RPN',
        train_cfg=dict(rpn=None),
        test_cfg=dict(rpn=None),
        backbone=BACKBONE,
        neck=dict(type='mmwf.SimpleFPN', in_channels=8, out_channels=8),
        rpn_head=dict(
            type='RPNHead',
            in_channels=8,
            feat_channels=8,
            anchor_generator=dict(
                type='AnchorGenerator', scales=[8], ratios=[1.0], strides=[4, 8, 16, 32, 64]
            ),
        ),
    ),
    'mmseg': dict(
        type='EncoderDecoder',
        backbone=BACKBONE,
        decode_head=dict(type='FCNHead', in_channels=8, channels=8, num_classes=2, in_index=0),
    ),
}


@pytest.mark.parametrize('scope', MODEL_CONFIGS)
def test_it_works_with_every_library(scope):
    import_task_library(SimpleNamespace(get=lambda key: scope))
    with DefaultScope.overwrite_default_scope(scope):
        model = MODELS.build(MODEL_CONFIGS[scope])
        _, of_parameter = groups_of(model, layer_decay_rate=0.5, backbone_flat_decay_mult=0.0)
    expected = {k: v for k, v in EXPECTED.items() if k.startswith('backbone.')}
    assert {k: v for k, v in of_parameter.items() if k.startswith('backbone.')} == expected
    others = {v for k, v in of_parameter.items() if not k.startswith('backbone.')}
    assert others == {(1.0, DECAY)}


def test_a_step_uses_the_learning_rates(model):
    wrapper = build_optim_wrapper(
        model,
        dict(
            optimizer=dict(type='SGD', lr=1.0),
            constructor='mmwf.LayerDecayOptimWrapperConstructor',
            paramwise_cfg=dict(layer_decay_rate=0.5),
        ),
    )
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    wrapper.step()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(
            before[name] - parameter, torch.full_like(parameter, EXPECTED[name][0])
        )
