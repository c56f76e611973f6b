"""Random arguments of models, and random tensors of ops: a right result, or a documented error."""

import math

import pytest
import torch
from fuzzing import cases
from hypothesis import given
from hypothesis import strategies as st

from mmwf import ops
from mmwf.models import Denoiser, SimpleFPN, WeightFormer
from mmwf.ops import LowRank, dense

ODD = [None, True, -1, 0, 1, 2, 3, 1.5, 'a', '', (), [], {}, math.nan, math.inf]
odd = st.sampled_from(ODD)


def numbers(*values):
    """These values, and now and then one of another kind."""
    return st.one_of(*[st.sampled_from(values)] * 3, odd)


ARCH = st.one_of(
    st.fixed_dictionaries(
        dict(embed_dims=numbers(4, 8, 12), depth=numbers(1, 2, 3), mlp_ratio=numbers(1, 2.5)),
        optional=dict(drop_path_rate=numbers(0.0, 0.5)),
    ),
    odd,
)
WEIGHTFORMER = st.fixed_dictionaries(
    dict(arch=ARCH),
    optional=dict(
        in_channels=numbers(1, 3),
        patch_size=numbers(1, 4, 5),
        out_indices=st.one_of(numbers(0, -1), st.lists(st.one_of(st.integers(-4, 4), odd))),
        out_type=numbers('featmap', 'raw', 'avg_featmap'),
        dynamic_blocks=st.one_of(numbers('all', 'none'), st.lists(st.integers(-4, 4), max_size=3)),
        dynamic_layers=st.one_of(st.lists(numbers('fc1', 'fc2', 'dwconv'), max_size=3), odd),
        linear_predictor=numbers('bilateral', 'gap'),
        dwconv_predictor=numbers('adaptive', 'gap'),
        drop_rate=numbers(0.0, 0.1),
        drop_path_rate=numbers(0.0, 0.1),
        norm_eps=numbers(1e-6, 1e-3),
        frozen_stages=numbers(-1, 0, 1),
    ),
)


@cases(100)
@given(
    arguments=WEIGHTFORMER,
    shape=st.tuples(*[st.integers(0, n) for n in (3, 4, 19, 19)]),
    training=st.booleans(),
)
def test_a_backbone_works_or_names_the_wrong_argument(arguments, shape, training):
    try:
        model = WeightFormer(**arguments).train(training)
        x = torch.randn(shape[0], model.in_channels, *shape[2:])
        outs = model(x)
    except ValueError as error:
        assert 'xpected' in str(error)
        return
    assert len(outs) == len(model.out_indices)
    assert all(out.isfinite().all() and len(out) == len(x) for out in outs)


DENOISER = st.fixed_dictionaries(
    dict(
        arch=st.one_of(
            st.fixed_dictionaries(
                dict(embed_dims=numbers(4, 8, 12), depth=numbers(1, 2), mlp_ratio=numbers(1, 2.5)),
                optional=dict(num_heads=numbers(1, 2, 5)),
            ),
            odd,
        ),
        input_size=numbers(4, 8),
        num_classes=numbers(1, 5),
    ),
    optional=dict(
        patch_size=numbers(1, 2, 3), in_channels=numbers(1, 4), label_drop_rate=numbers(0.0, 0.1)
    ),
)


@cases(60)
@given(arguments=DENOISER, batch=st.integers(0, 2), size=numbers(4, 8))
def test_a_denoiser_works_or_names_the_wrong_argument(arguments, batch, size):
    try:
        model = Denoiser(**arguments).eval()
        side = size if type(size) is int and size >= 0 else 4
        x = torch.randn(batch, model.in_channels, side, side)
        out = model(x, torch.zeros(batch), torch.zeros(batch, dtype=torch.long))
    except ValueError as error:
        assert 'xpected' in str(error)
        return
    assert out.shape == (batch, 2 * model.in_channels, side, side) and out.isfinite().all()


@cases(60)
@given(
    in_channels=numbers(4, 8),
    out_channels=numbers(1, 4),
    arguments=st.fixed_dictionaries(
        {},
        optional=dict(
            scale_factors=st.one_of(st.sampled_from([(4, 2), (1, 0.5), (1,)]), odd),
            num_outs=numbers(2, 4),
            norm_eps=numbers(1e-6),
        ),
    ),
    shape=st.tuples(*[st.integers(0, n) for n in (2, 5, 5)]),
)
def test_a_pyramid_works_or_names_the_wrong_argument(in_channels, out_channels, arguments, shape):
    try:
        neck = SimpleFPN(in_channels, out_channels, **arguments)
        outs = neck(torch.randn(shape[0], neck.in_channels, *shape[1:]))
    except ValueError as error:
        assert 'xpected' in str(error)
        return
    assert len(outs) == neck.num_outs
    assert all(out.isfinite().all() for out in outs)


SIZES = dict(B=2, M=3, N=3, H=4, W=3, C=4, D=6, E=5, R=2, S=3, K=3, one=1)
LINEAR = dict(x='BNC', weight='CD', delta='BCD', bias='D')
MLP = dict(x='BNC', weight1='CD', delta='BCD', bias1='D', weight2='ED', bias2='E')
DWCONV = dict(x='BHWC', weight='C1KK', delta='BCKK', bias='C')
#: The arguments of each op with their right shapes, and its other arguments.
OPS = {
    'bilateral_weight': (dict(a='BMR', p='BMS', u='RC', v='SD'), dict(scale=0.5)),
    'dynamic_linear': (LINEAR, {}),
    'mlp': (MLP, {}),
    'dwconv2d': ({k: v for k, v in DWCONV.items() if k != 'delta'}, {}),
    'dynamic_dwconv2d': (DWCONV, {}),
    'dwconv_norm': (dict(DWCONV, norm_weight='C', norm_bias='C'), dict(eps=1e-6)),
    'normalize_weight': (dict(delta='BCD'), dict(dim=1)),
}


def draw_tensor(data, shape):
    """A tensor that is right, or of another shape, dtype or kind."""
    sizes = [SIZES.get(letter, 1) for letter in shape]
    kind = data.draw(st.sampled_from(['right'] * 12 + ['size', 'dims', 'dtype', 'none', 'empty']))
    if kind == 'none':
        return data.draw(odd)
    if kind in ('size', 'empty'):
        index = data.draw(st.integers(0, len(sizes) - 1))
        sizes[index] = 0 if kind == 'empty' else data.draw(st.integers(1, 7))
    if kind == 'dims':
        sizes = sizes[:-1] if data.draw(st.booleans()) else [*sizes, 2]
    dtype = data.draw(st.sampled_from([torch.long, torch.half, torch.bool, torch.complex64]))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 9)))
    tensor = torch.randn(sizes, generator=generator)
    return tensor.to(dtype) if kind == 'dtype' else tensor


def results(name, arguments):
    """What the op returns with each backend, or the error."""
    for backend in ('naive', 'eager', 'plain'):
        with ops.use_backend(backend):
            try:
                out = getattr(ops, name)(**arguments)
            except (ValueError, TypeError) as error:
                assert 'xpected' in str(error), error
                yield type(error)
                continue
        yield [dense(part) for part in (out if type(out) is tuple else [out])]


@pytest.mark.parametrize('name', OPS)
@cases(60)
@given(data=st.data())
def test_backends_agree_or_name_the_wrong_argument(name, data):
    shapes, others = OPS[name]
    arguments = {key: draw_tensor(data, shape) for key, shape in shapes.items()}
    if shapes.get('delta') == 'BCD' and data.draw(st.booleans()):
        arguments['delta'] = LowRank(draw_tensor(data, 'RC'), draw_tensor(data, 'BRD'))
    others = {
        key: data.draw(numbers(value)) if key != 'scale' else value for key, value in others.items()
    }
    reference, *rest = results(name, {**arguments, **others})
    for result in rest:
        if isinstance(reference, list):
            for ours, expected in zip(result, reference, strict=True):
                torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4, equal_nan=True)
        else:
            assert result is reference
