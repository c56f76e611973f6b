"""The backbone against tensors of the released model and the model sizes of the paper."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmwf import ops
from mmwf.analysis.flops import MultiplyAddCounter
from mmwf.checkpoints.released_keys import released_to_mmwf
from mmwf.models import WeightFormer

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5}
backends = pytest.mark.parametrize('backend', sorted(ops.BACKENDS))
precisions = pytest.mark.parametrize('dtype', list(TOLERANCE))


def relative_error(actual, expected):
    """Largest difference, relative to the largest expected value."""
    assert actual.shape == expected.shape
    return ((actual - expected).abs().max() / expected.abs().max()).item()


@pytest.fixture
def build(golden_arch, released_weights):
    """Builds the golden backbone; returns it with the weight and bias of its head."""

    def make(dtype, **kwargs):
        model = WeightFormer(golden_arch, out_type='raw', **kwargs).to(dtype)
        weights = released_to_mmwf(released_weights)
        head = [weights.pop(f'head.fc.{name}').to(dtype) for name in ('weight', 'bias')]
        names = {key.removeprefix('backbone.'): value for key, value in weights.items()}
        if not kwargs.get('final_norm', True):
            names = {k: v for k, v in names.items() if not k.startswith('norm.')}
        model.load_state_dict(names)
        return model, *head

    return make


@backends
@precisions
def test_every_block_is_that_of_the_released_model(build, golden, backend, dtype):
    model, *_ = build(dtype, out_indices=range(3), final_norm=False)
    with ops.use_backend(backend):
        outs = model(golden['input'].to(dtype))
    for i, out in enumerate(outs):
        assert relative_error(out, golden[f'block_out/{i}']) < TOLERANCE[dtype]


@backends
@precisions
def test_only_the_last_block_is_normalised(build, golden, golden_arch, backend, dtype):
    last = golden_arch['depth'] - 1
    model, *_ = build(dtype, out_indices=sorted({0, 1, last}))
    with ops.use_backend(backend):
        first, second, tokens = model(golden['input'].to(dtype))
    assert relative_error(first, golden['block_out/0']) < TOLERANCE[dtype]
    assert relative_error(second, golden['block_out/1']) < TOLERANCE[dtype]
    assert relative_error(tokens, golden['tokens']) < TOLERANCE[dtype]


@backends
@precisions
def test_logits_and_gradients_are_those_of_the_released_model(build, golden, backend, dtype):
    model, head_weight, head_bias = build(dtype)
    image = golden['input'].to(dtype).requires_grad_()
    with ops.use_backend(backend):
        logits = F.linear(model(image)[0].mean(1), head_weight, head_bias)
        ramp = torch.linspace(-1, 1, logits.numel(), dtype=torch.float64).view_as(logits)
        (logits * ramp.to(dtype)).sum().backward()
    assert relative_error(logits, golden['logits']) < TOLERANCE[dtype]
    assert relative_error(image.grad, golden['grad_input']) < TOLERANCE[dtype]

    released_grads = {k.removeprefix('grad/'): v for k, v in golden.items() if 'grad/' in k}
    assert len(released_grads) == 6
    parameters = dict(model.named_parameters())
    for name, expected in released_to_mmwf(released_grads).items():
        actual = parameters[name.removeprefix('backbone.')].grad
        assert relative_error(actual, expected) < TOLERANCE[dtype], name


ARCHS = [
    # arch, embed_dims, image size, parameters and multiply-adds (G) with 1000 classes
    ('tiny', 192, 224, 7_074_184, 1.124),
    ('small', 384, 224, 27_492_136, 4.428),
    ('base', 384, 448, 27_492_136, 17.663),
]


@pytest.mark.parametrize(('arch', 'embed_dims', 'size', 'parameters', 'giga_macs'), ARCHS)
def test_counts_are_those_of_the_paper(arch, embed_dims, size, parameters, giga_macs):
    model = WeightFormer(arch, out_type='avg_featmap').eval()
    head = nn.Linear(embed_dims, 1000)
    assert sum(p.numel() for m in (model, head) for p in m.parameters()) == parameters
    assert model.depth == 17
    assert model.dynamic_blocks == (1, 4, 7, 10, 13, 16)
    # The naive backend evaluates products in the order of the paper's equations.
    with torch.no_grad(), ops.use_backend('naive'), MultiplyAddCounter() as counter:
        head(model(torch.zeros(1, 3, size, size))[0])
    assert counter.total / 1e9 == pytest.approx(giga_macs, abs=0.0005)


@pytest.mark.parametrize(
    ('alias', 'arch'), [('t', 'tiny'), ('S', 'small'), ('b', 'base'), ('Tiny', 'tiny')]
)
def test_short_names_are_aliases_of_the_arch(alias, arch):
    with torch.device('meta'):
        short, full = WeightFormer(alias), WeightFormer(arch)
    assert [(n, p.shape) for n, p in short.named_parameters()] == [
        (n, p.shape) for n, p in full.named_parameters()
    ]
    assert [b.drop_path.drop_prob for b in short.blocks] == [
        b.drop_path.drop_prob for b in full.blocks
    ]
