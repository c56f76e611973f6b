"""||dW||_F / ||W0||_F, against a computation by hand."""

import math

import pytest
import torch
from torch import nn

from mmwf import ops
from mmwf.analysis.weight_strength import (
    dynamic_layers,
    measure_weight_strength,
    record_weight_strength,
)
from mmwf.models import WeightFormer

LAYERS = [f'blocks.{i}.{layer}' for i in (1, 4) for layer in ('dwconv', 'mlp.fc1', 'mlp.fc2')]


@pytest.fixture
def model(randomize):
    arch = dict(embed_dims=8, depth=5, mlp_ratio=2)
    return randomize(
        WeightFormer(arch, patch_size=4, dynamic_layers=('fc1', 'fc2', 'dwconv')).double()
    )


def images(number=3):
    return torch.randn(number, 3, 12, 20).double()


def frobenius(weight):
    return math.sqrt(sum(value**2 for value in weight.flatten().tolist()))


def test_it_is_the_ratio_of_the_norms(model):
    batch, tokens = images(), {}
    model.blocks[0].mlp.drop.p = 0.5  # not in evaluation
    for name in LAYERS:
        model.get_submodule(name).register_forward_pre_hook(
            lambda module, inputs, name=name: tokens.__setitem__(name, inputs[0])
        )
    strength = measure_weight_strength(model, batch.split(2))
    model(batch)
    assert list(strength) == LAYERS
    for name, ratios in strength.items():
        layer = model.get_submodule(name)
        for ratio, x in zip(ratios, tokens[name], strict=True):
            delta = ops.dense(layer.predictor(x[None]))[0]
            expected = frobenius(delta) / frobenius(layer.weight)
            assert ratio.item() == pytest.approx(expected, rel=1e-9)


def test_a_predictor_that_outputs_zero_has_no_strength(model):
    nn.init.zeros_(model.blocks[4].mlp.fc1.predictor.v)
    strength = measure_weight_strength(model, [images()])
    assert strength.pop('blocks.4.mlp.fc1').tolist() == [0, 0, 0]
    assert all((ratios > 0).all() for ratios in strength.values())


@pytest.mark.parametrize('with_cp', [False, True])
def test_recording_does_not_change_training(model, with_cp):
    model.with_cp = with_cp
    batch, results = images(), []
    for record in (False, True):
        model.zero_grad()
        if record:
            with record_weight_strength(model) as strength:
                out = model(batch)[0]
                out.square().sum().backward()
        else:
            out = model(batch)[0]
            out.square().sum().backward()
        results.append([out, *(p.grad for p in model.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    for ratios in strength.values():  # checkpointing computes each block twice
        assert len(ratios) == 1 + with_cp
        assert all(torch.equal(ratio, ratios[0]) for ratio in ratios)
        assert not ratios[0].requires_grad


def test_nothing_is_recorded_after_the_block(model):
    with pytest.raises(RuntimeError), record_weight_strength(model) as strength:
        raise RuntimeError
    model(images())
    assert not strength
    assert not any(layer.predictor._forward_hooks for layer in dynamic_layers(model).values())


def test_errors_say_what_was_expected(model):
    with pytest.raises(ValueError, match='dynamic layers, but Linear has none'):
        measure_weight_strength(nn.Linear(2, 2), [images()])
    with pytest.raises(ValueError, match='at least one image'):
        measure_weight_strength(model, [])


def test_the_strength_is_measured_in_fp32_under_autocast(model):
    model, batch = model.float(), images().float()
    layer, inputs = model.blocks[1].mlp.fc1, []
    layer.predictor.register_forward_hook(lambda module, args, out: inputs.append(args[0].float()))
    with record_weight_strength(model) as strength, torch.autocast('cpu', torch.bfloat16):
        model(batch)
    delta = ops.dense(layer.predictor(inputs[0]))
    expected = delta.flatten(1).norm(dim=1) / layer.weight.norm()
    assert torch.allclose(strength['blocks.1.mlp.fc1'][0], expected, rtol=1e-5)
