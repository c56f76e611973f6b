"""SimpleFPN against a functional reference, and LayerNorm2d in the scope of every library."""

import pytest
import torch
import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from mmengine.registry import DefaultScope

import mmwf  # noqa: F401
from mmwf.models import LayerNorm2d, SimpleFPN


@pytest.fixture
def neck():
    torch.manual_seed(0)
    neck = SimpleFPN(in_channels=16, out_channels=8)
    for parameter in neck.parameters():  # also of the norms, so that their position matters
        torch.nn.init.normal_(parameter, std=0.3)
    return neck


def norm(x, weight, bias):
    """Channels-first LayerNorm as in detectron2."""
    mean = x.mean(1, keepdim=True)
    variance = (x - mean).pow(2).mean(1, keepdim=True)
    return weight[:, None, None] * (x - mean) / (variance + 1e-6).sqrt() + bias[:, None, None]


def reference(x, state):
    def up(x, name):
        return F.conv_transpose2d(x, state[f'{name}.weight'], state[f'{name}.bias'], stride=2)

    def out(x, level, first):
        x = F.conv2d(x, state[f'levels.{level}.{first}.weight'])
        x = norm(x, *(state[f'levels.{level}.{first + 1}.{k}'] for k in ('weight', 'bias')))
        x = F.conv2d(x, state[f'levels.{level}.{first + 2}.weight'], padding=1)
        return norm(x, *(state[f'levels.{level}.{first + 3}.{k}'] for k in ('weight', 'bias')))

    x4 = norm(up(x, 'levels.0.0'), state['levels.0.1.weight'], state['levels.0.1.bias'])
    x4 = up(F.gelu(x4), 'levels.0.3')
    outs = [out(x4, 0, 4), out(up(x, 'levels.1.0'), 1, 1), out(x, 2, 0)]
    outs.append(out(F.max_pool2d(x, 2), 3, 1))
    return [*outs, outs[-1][:, :, ::2, ::2]]


@pytest.mark.parametrize('size', [(4, 6), (5, 7), (2, 2)])
def test_levels_are_those_of_vitdet(neck, size):
    x = torch.randn(2, 16, *size)
    outs = neck(x)
    expected = reference(x, neck.state_dict())
    assert [tuple(o.shape) for o in outs] == [tuple(e.shape) for e in expected]
    for out, level in zip(outs, expected, strict=True):
        torch.testing.assert_close(out, level, rtol=1e-4, atol=1e-5)


def test_fewer_levels_are_the_same_levels(neck):
    x = torch.randn(1, 16, 4, 6)
    fewer = SimpleFPN(in_channels=16, out_channels=8, scale_factors=(2, 1))
    fewer.levels.load_state_dict(torch.nn.ModuleList(neck.levels[1:3]).state_dict())
    outs, expected = fewer(x), neck(x)[1:3]
    assert len(outs) == 3 and torch.equal(outs[2], expected[1][:, :, ::2, ::2])
    assert all(torch.equal(out, level) for out, level in zip(outs[:2], expected, strict=True))


@pytest.mark.parametrize('num_outs', [4, 5, 7])
def test_extra_levels_take_every_second_pixel(neck, num_outs):
    x = torch.randn(1, 16, 8, 10)
    other = SimpleFPN(in_channels=16, out_channels=8, num_outs=num_outs)
    other.load_state_dict(neck.state_dict())
    outs, expected = other(x), list(neck(x)[:4])
    while len(expected) < num_outs:
        expected.append(expected[-1][:, :, ::2, ::2])
    assert len(outs) == num_outs
    assert all(torch.equal(out, level) for out, level in zip(outs, expected, strict=True))


def test_tuple_and_tensor_inputs_give_the_same_outputs(neck):
    x = torch.randn(1, 16, 4, 4)
    for a, b in zip(neck(x), neck((x,)), strict=True):
        assert torch.equal(a, b)


def test_every_parameter_gets_a_gradient(neck):
    sum(out.square().sum() for out in neck(torch.randn(1, 16, 4, 4))).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in neck.parameters())


def test_invalid_inputs_and_arguments_are_named(neck):
    with pytest.raises(ValueError, match=r'one feature map \(B, 16, H, W\), got .*\(1, 8, 4, 4\)'):
        neck(torch.randn(1, 8, 4, 4))
    with pytest.raises(ValueError, match='one feature map'):
        neck((torch.randn(1, 16, 4, 4), torch.randn(1, 16, 4, 4)))
    with pytest.raises(ValueError, match='multiple of 4, got 18'):
        SimpleFPN(in_channels=18)
    for factors in [(), (1, 2), (2, 2), (3,)]:
        with pytest.raises(ValueError, match=r'\(4, 2, 1, 0.5\) in decreasing order'):
            SimpleFPN(in_channels=16, scale_factors=factors)
    with pytest.raises(ValueError, match='num_outs to be at least 2, .* got 1'):
        SimpleFPN(in_channels=16, scale_factors=(2, 1), num_outs=1)


@pytest.mark.parametrize('scope', ['mmengine', 'mmpretrain', 'mmdet', 'mmseg'])
@pytest.mark.parametrize('name', ['mmwf.LayerNorm2d', 'LayerNorm2d'])
def test_mmcv_builds_the_norm_in_every_scope(scope, name):
    with DefaultScope.overwrite_default_scope(scope):
        abbreviation, layer = build_norm_layer(dict(type=name, eps=1e-5), 8, postfix=1)
    assert abbreviation == 'ln1'
    assert isinstance(layer, LayerNorm2d) and layer.eps == 1e-5


def test_norm_normalises_channels_and_returns_a_contiguous_tensor():
    x = torch.randn(2, 8, 3, 5) * 4 + 2
    y = LayerNorm2d(8)(x)
    assert y.is_contiguous()
    torch.testing.assert_close(y, norm(x, torch.ones(8), torch.zeros(8)), rtol=1e-4, atol=1e-5)


def test_a_pyramid_is_not_cast_to_bf16_under_autocast(neck):
    with torch.autocast('cpu', torch.bfloat16):
        assert all(out.dtype == torch.float32 for out in neck(torch.randn(1, 16, 4, 4)))
    x = torch.randn(1, 16, 4, 4, dtype=torch.float64)
    assert all(out.dtype == torch.float64 for out in neck.double()(x))
