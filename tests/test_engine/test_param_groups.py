"""Optimizers with few parameter groups."""

import pytest
import torch
from mmengine.optim import CosineAnnealingLR, build_optim_wrapper
from torch import nn

from mmwf.models import WeightFormer

PARAMWISE = dict(norm_decay_mult=0.0, bias_decay_mult=0.0, flat_decay_mult=0.0)


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = WeightFormer(dict(embed_dims=16, depth=3, mlp_ratio=2))
        self.head = nn.Linear(16, 5)


def build(model, constructor, paramwise_cfg=PARAMWISE, **optimizer):
    cfg = dict(
        constructor=constructor,
        optimizer=dict(dict(type='AdamW', lr=1e-3, weight_decay=0.05), **optimizer),
        paramwise_cfg=paramwise_cfg,
    )
    return build_optim_wrapper(model, cfg).optimizer


def settings(optimizer):
    """Rate and weight decay of each parameter."""
    return {
        parameter: (group['lr'], group['weight_decay'])
        for group in optimizer.param_groups
        for parameter in group['params']
    }


@pytest.mark.parametrize(
    'paramwise_cfg',
    [PARAMWISE, {}, dict(custom_keys={'head': dict(lr_mult=10.0, decay_mult=0.5)})],
)
def test_every_parameter_keeps_the_settings_of_mmengines_constructor(paramwise_cfg):
    model = Classifier()
    expected = settings(build(model, 'DefaultOptimWrapperConstructor', paramwise_cfg))
    assert settings(build(model, 'mmwf.OptimWrapperConstructor', paramwise_cfg)) == expected
    assert len(expected) == len(list(model.parameters()))


@pytest.mark.parametrize(
    ('paramwise_cfg', 'groups'),
    [
        (PARAMWISE, 2),
        ({}, 1),
        (dict(custom_keys={'head': dict(lr_mult=10.0)}), 2),
        (dict(PARAMWISE, custom_keys={'head': dict(lr_mult=10.0)}), 3),
    ],
)
def test_there_is_one_group_for_all_parameters_of_the_same_settings(paramwise_cfg, groups):
    optimizer = build(Classifier(), 'mmwf.OptimWrapperConstructor', paramwise_cfg)
    assert len(optimizer.param_groups) == groups


def test_unhashable_settings_of_custom_keys_are_kept():
    paramwise_cfg = dict(custom_keys={'head': dict(lr_mult=1.0, betas=[0.5, 0.6])})
    optimizer = build(Classifier(), 'mmwf.OptimWrapperConstructor', paramwise_cfg)
    assert [group['betas'] for group in optimizer.param_groups] == [(0.9, 0.999), [0.5, 0.6]]


@pytest.mark.parametrize(
    ('cuda', 'optimizer', 'expected'),
    [
        (True, {}, True),
        (False, {}, None),
        (True, dict(fused=False), False),
        (True, dict(foreach=True), None),
    ],
)
@pytest.mark.parametrize(
    'constructor', ['OptimWrapperConstructor', 'LayerDecayOptimWrapperConstructor']
)
def test_on_a_gpu_the_optimizer_is_fused_unless_the_config_says_otherwise(
    monkeypatch, constructor, cuda, optimizer, expected
):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: cuda)
    cfg = dict(PARAMWISE, layer_decay_rate=0.9)
    optimizer_cfg = dict(type='AdamW', lr=1e-3, weight_decay=0.05, **optimizer)
    wrapper_cfg = dict(
        constructor=f'mmwf.{constructor}', optimizer=optimizer_cfg, paramwise_cfg=cfg
    )
    built = build_optim_wrapper(Classifier(), wrapper_cfg).optimizer
    assert built.defaults['fused'] is expected
    assert optimizer_cfg.keys() == {'type', 'lr', 'weight_decay', *optimizer}  # the config is kept


def test_an_optimizer_that_cannot_be_fused_is_left_alone(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    optimizer = build(Classifier(), 'mmwf.OptimWrapperConstructor', type='RAdam')
    assert 'fused' not in optimizer.defaults


def train(model, optimizer, steps=5):
    """Trains with a schedule that ends at an absolute rate; returns the names of what changed."""
    schedule = CosineAnnealingLR(optimizer, T_max=steps, eta_min=1e-3, by_epoch=False)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for _ in range(steps):
        (features,) = model.backbone(torch.randn(2, 3, 32, 32))
        model.head(features.mean((2, 3))).square().sum().backward()
        optimizer.step()
        schedule.step()
    return {name for name, p in model.named_parameters() if not p.equal(before[name])}


@pytest.mark.parametrize(
    ('constructor', 'extra'),
    [
        ('mmwf.OptimWrapperConstructor', {}),
        ('mmwf.LayerDecayOptimWrapperConstructor', dict(layer_decay_rate=0.5)),
    ],
)
def test_parameters_with_a_factor_of_0_never_change(constructor, extra):
    """Even if a schedule ends at an absolute rate, to which it would raise a rate of 0."""
    model = Classifier()
    paramwise_cfg = dict(PARAMWISE, custom_keys={'backbone': dict(lr_mult=0.0)}, **extra)
    optimizer = build(model, constructor, paramwise_cfg)
    assert train(model, optimizer) == {'head.weight', 'head.bias'}


def test_training_nothing_is_an_error():
    paramwise_cfg = dict(custom_keys={name: dict(lr_mult=0.0) for name in ('backbone', 'head')})
    with pytest.raises(ValueError, match='Nothing is trained'):
        build(Classifier(), 'mmwf.OptimWrapperConstructor', paramwise_cfg)


def test_a_learning_rate_of_0_freezes_nothing():
    """It is a way to run a training without changes, and schedules count with its groups."""
    optimizer = build(Classifier(), 'mmwf.OptimWrapperConstructor', lr=0.0)
    assert len(settings(optimizer)) == len(list(Classifier().parameters()))
