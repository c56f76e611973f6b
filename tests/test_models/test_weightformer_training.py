"""Training the backbone: initialisation, regularisation, precision, freezing, layer depths."""

import pytest
import torch
from mmengine.registry import MODELS
from torch import nn
from torch.testing import assert_close

from mmwf.models import WeightFormer
from mmwf.models.layers import DWConv2d, DynamicDWConv2d, DynamicLinear

ARCH = dict(embed_dims=16, depth=5, mlp_ratio=4)


def build(**kwargs):
    return WeightFormer(**{'arch': ARCH, **kwargs})


def images(b=2, height=64, width=48):
    return torch.randn(b, 3, height, width)


# Initialisation -----------------------------------------------------------------------------------


@pytest.mark.parametrize('call_init_weights', [False, True])
def test_initial_weights_are_those_of_the_released_code(call_init_weights):
    model = WeightFormer('tiny', dynamic_layers=('fc1', 'fc2', 'dwconv'))
    if call_init_weights:
        model.init_weights()

    def has_std(parameter, std, rel=0.03):
        assert parameter.std().item() == pytest.approx(std, rel=rel)

    counts = dict.fromkeys((nn.Linear, DynamicLinear, DynamicDWConv2d, DWConv2d), 0)
    for module in model.modules():
        if type(module) in counts:
            counts[type(module)] += 1
        if type(module) is nn.Linear:
            has_std(module.weight, 0.02)
            assert not module.bias.any()
        elif type(module) is DynamicLinear:
            for parameter in (module.weight, module.predictor.u, module.predictor.v):
                has_std(parameter, 0.02)
            has_std(module.bias, 0.02, rel=0.25)
        elif type(module) is DynamicDWConv2d:
            has_std(module.weight, 0.02, rel=0.15)
            has_std(module.bias, 0.02, rel=0.3)
        elif isinstance(module, nn.Conv2d):  # PyTorch's default: uniform
            bound = module.weight[0].numel() ** -0.5
            assert 0.9 * bound < module.weight.abs().max() <= bound
    # fc1 and fc2 of 11 static blocks, and one projection in each of 12 predictors
    assert counts == {nn.Linear: 22 + 12, DynamicLinear: 12, DynamicDWConv2d: 6, DWConv2d: 11}


def test_init_cfg_is_applied():
    model = build(init_cfg=dict(type='Constant', layer='LayerNorm', val=3.0))
    model.init_weights()
    assert (model.init_norm.weight == 3).all()


def test_init_cfg_pretrained_loads_a_checkpoint(tmp_path, randomize):
    source = randomize(build(out_type='raw'))
    torch.save(source.state_dict(), tmp_path / 'backbone.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'backbone.pth'))
    model = MODELS.build(dict(type='WeightFormer', arch=ARCH, out_type='raw', init_cfg=init_cfg))
    x = images()
    assert not torch.equal(model(x)[0], source(x)[0])
    model.init_weights()
    assert torch.equal(model(x)[0], source(x)[0])


# Regularisation and precision ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ('kwargs', 'last'),
    [
        (dict(arch='tiny'), 0.0),
        (dict(arch='small'), 0.2),
        (dict(arch='base'), 0.2),
        (dict(arch='small', drop_path_rate=0.0), 0.0),
        (dict(arch='tiny', drop_path_rate=0.4), 0.4),
        (dict(arch=ARCH), 0.0),
        (dict(arch=dict(ARCH, drop_path_rate=0.1)), 0.1),
    ],
)
def test_drop_path_increases_linearly_from_zero(kwargs, last):
    with torch.device('meta'):
        model = build(**kwargs)
    rates = [block.drop_path.drop_prob for block in model.blocks]
    assert rates == pytest.approx([i * last / (model.depth - 1) for i in range(model.depth)])


def test_drop_rate_reaches_every_mlp():
    assert [block.mlp.drop.p for block in build(drop_rate=0.3).blocks] == [0.3] * 5


def test_evaluation_is_deterministic_and_training_is_not():
    model = build(drop_rate=0.2, drop_path_rate=0.5)
    x = images()
    assert not torch.equal(model.train()(x)[0], model(x)[0])
    assert torch.equal(model.eval()(x)[0], model(x)[0])


def test_training_under_bfloat16_autocast_gives_finite_gradients():
    model = build(drop_path_rate=0.1, dynamic_layers=('fc1', 'fc2', 'dwconv'))
    with torch.autocast('cpu', dtype=torch.bfloat16):
        out = model(images())[0]
        loss = (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum()
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.dtype == torch.float32


def test_every_parameter_has_a_gradient(randomize):
    # DistributedDataParallel fails on parameters without one.
    model = randomize(build(dynamic_layers=('fc1', 'fc2', 'dwconv'))).double()
    out = model(images().double())[0]
    (out * torch.randn_like(out)).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize('frozen_stages', [-1, 2])
def test_gradient_checkpointing_changes_neither_outputs_nor_gradients(frozen_stages):
    model = build(drop_path_rate=0.5, drop_rate=0.1, frozen_stages=frozen_stages)
    x = images(4)
    results = []
    for with_cp in (False, True):
        model.with_cp = with_cp
        model.zero_grad()
        torch.manual_seed(1)  # the same drop path in both runs
        out = model(x)[0]
        (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
        results.append([out, *(p.grad for p in model.parameters() if p.requires_grad)])
    for plain, checkpointed in zip(*results, strict=True):
        assert_close(checkpointed, plain, rtol=0, atol=0)


def test_gradient_checkpointing_recomputes_each_block():
    model = build(with_cp=True)
    calls = []
    for block in model.blocks:
        block.register_forward_pre_hook(lambda *args: calls.append(1))
    model(images())[0].sum().backward()
    assert len(calls) == 2 * model.depth


# Freezing -----------------------------------------------------------------------------------------


@pytest.mark.parametrize('frozen_stages', [-1, 0, 1, 3, 5])
def test_frozen_stages_are_not_trained_and_stay_in_evaluation_mode(frozen_stages):
    model = build(frozen_stages=frozen_stages, drop_path_rate=0.5)
    frozen = ['patch_embed.', 'init_norm.'] if frozen_stages >= 0 else []
    frozen += [f'blocks.{i}.' for i in range(frozen_stages)]
    frozen += ['norm.'] if frozen_stages == model.depth else []
    for _ in range(2):
        for name, parameter in model.named_parameters():
            assert parameter.requires_grad != name.startswith(tuple(frozen)), name
        for name, module in model.named_modules():
            if name:
                assert module.training != f'{name}.'.startswith(tuple(frozen)) or name == 'blocks'
        model.eval().train()
    assert not any(module.training for module in model.eval().modules())


def test_unfrozen_blocks_after_frozen_ones_are_trained():
    model = build(frozen_stages=4)
    model(images())[0].square().sum().backward()
    assert {name.split('.')[0] for name, p in model.named_parameters() if p.grad is not None} == {
        'blocks',
        'norm',
    }


# Layer-wise learning-rate decay -------------------------------------------------------------------


@pytest.mark.parametrize('prefix', ['', 'backbone.'])
def test_every_parameter_has_its_layer_depth(prefix):
    model = build()
    for name, _ in model.named_parameters():
        if name.startswith(('patch_embed.', 'init_norm.')):
            expected = 0
        elif name.startswith('blocks.'):
            expected = int(name.split('.')[1]) + 1
        else:
            expected = 6
        assert model.get_layer_depth(prefix + name, prefix) == (expected, 7), name


@pytest.mark.parametrize('name', ['head.fc.weight', 'neck.0.bias', 'decode_head.conv_seg.weight'])
def test_parameters_outside_the_backbone_are_in_the_last_layer(name):
    assert build().get_layer_depth(name, 'backbone.') == (6, 7)


@pytest.mark.parametrize(
    'name', ['pos_embed', 'blocks.5.mlp.fc1.weight', 'blocks.x.norm1.weight', 'normal.weight', '']
)
def test_a_name_that_is_not_a_parameter_is_rejected(name):
    with pytest.raises(ValueError, match='is not a parameter of this WeightFormer'):
        build().get_layer_depth(f'backbone.{name}', 'backbone.')
