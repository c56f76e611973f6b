"""The options of the backbone: outputs, dynamic blocks and layers, bad arguments."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from mmwf.models import WeightFormer
from mmwf.models.layers import (
    DWCONV_PREDICTORS,
    LINEAR_PREDICTORS,
    DWConv2d,
    DynamicBlock,
    DynamicDWConv2d,
    DynamicLinear,
    StaticBlock,
)

ARCH = dict(embed_dims=16, depth=5, mlp_ratio=4)


def build(**kwargs):
    return WeightFormer(**{'arch': ARCH, **kwargs})


def images(b=2, height=64, width=48, dtype=torch.float32):
    return torch.randn(b, 3, height, width, dtype=dtype)


# Outputs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('out_type', 'shape'),
    [('featmap', (2, 16, 4, 3)), ('avg_featmap', (2, 16)), ('raw', (2, 12, 16))],
)
@pytest.mark.parametrize(
    ('out_indices', 'count'), [(-1, 1), (0, 1), ((0, 2, 4), 3), ([-5, -3, -1], 3), (range(5), 5)]
)
def test_outputs_have_the_shape_of_out_type(out_type, shape, out_indices, count):
    outs = build(out_type=out_type, out_indices=out_indices)(images())
    assert isinstance(outs, tuple)
    assert [out.shape for out in outs] == [shape] * count


def test_negative_out_indices_count_from_the_end(randomize):
    model = randomize(build(out_indices=(1, 4))).eval()
    x = images()
    expected = model(x)
    model.out_indices = build(out_indices=(-4, -1)).out_indices
    assert all(torch.equal(a, b) for a, b in zip(model(x), expected, strict=True))


def test_out_types_are_reshapes_and_means_of_the_same_features(randomize):
    model = randomize(build(out_indices=(1, -1))).eval()
    x = images()
    outs = {}
    for out_type in ('featmap', 'avg_featmap', 'raw'):
        model.out_type = out_type
        outs[out_type] = model(x)
    for featmap, avg, raw in zip(*outs.values(), strict=True):
        assert featmap.is_contiguous()
        assert_close(featmap.mean((2, 3)), avg)
        assert_close(featmap.flatten(2).transpose(1, 2), raw)


def test_without_final_norm_the_last_output_is_not_normalised(randomize):
    model = randomize(build(out_type='raw')).eval()
    without = build(out_type='raw', final_norm=False).eval()
    without.load_state_dict(model.state_dict(), strict=False)
    x = images()
    assert_close(model.norm(without(x)[0]), model(x)[0])


@pytest.mark.parametrize(
    ('height', 'width', 'grid'),
    [(50, 33, (4, 3)), (16, 80, (1, 5)), (64, 16, (4, 1)), (16, 16, (1, 1)), (3, 5, (1, 1))],
)
def test_any_image_size_is_accepted_and_zero_padded(height, width, grid, randomize):
    model = randomize(build()).eval()
    x = images(2, height, width)
    padded = torch.zeros(2, 3, grid[0] * 16, grid[1] * 16)
    padded[:, :, :height, :width] = x
    out = model(x)[0]
    assert out.shape == (2, 16, *grid)
    assert out.isfinite().all()
    assert_close(out, model(padded)[0])


@pytest.mark.parametrize('dynamic_layers', [('fc1', 'dwconv'), ('fc1', 'fc2', 'dwconv')])
def test_outputs_do_not_depend_on_other_images_of_the_batch(dynamic_layers, randomize):
    model = randomize(build(dynamic_layers=dynamic_layers)).double().eval()
    x = images(3, dtype=torch.float64)
    others = torch.cat([torch.zeros_like(x[:1]), x[1:2], 10 * torch.randn_like(x[:1])])
    assert_close(model(others)[0][1], model(x)[0][1])
    assert_close(model(x[1:2])[0][0], model(x)[0][1])


def test_the_receptive_field_is_global_with_dynamic_blocks_only(randomize):
    x = images(1, 256, 256, torch.float64)
    changed = x.clone()
    changed[..., :16, :16] += 1  # one of 16 x 16 tokens; five 3 x 3 convolutions have radius five
    for blocks, reaches in (('every-third', True), ('none', False)):
        model = randomize(build(dynamic_blocks=blocks)).double().eval()
        far = (model(changed)[0] - model(x)[0])[0, :, -1, -1]
        assert (far.abs().max() > 0) == reaches


def test_other_channels_and_patch_sizes_are_accepted():
    model = build(in_channels=5, patch_size=8)
    assert model(torch.randn(1, 5, 24, 17))[0].shape == (1, 16, 3, 3)


# Which blocks and layers are dynamic --------------------------------------------------------------


@pytest.mark.parametrize(
    ('dynamic_blocks', 'expected'),
    [
        ('every-third', [1, 4]),
        ('all', [0, 1, 2, 3, 4]),
        ('none', []),
        (None, []),
        ([], []),
        ([3, 0], [0, 3]),
        ((-1, 2), [2, 4]),
    ],
)
def test_dynamic_blocks(dynamic_blocks, expected):
    model = build(dynamic_blocks=dynamic_blocks)
    for i, block in enumerate(model.blocks):
        assert type(block) is (DynamicBlock if i in expected else StaticBlock)
        assert type(block.mlp.fc1) is (DynamicLinear if i in expected else nn.Linear)
        assert type(block.dwconv) is (DynamicDWConv2d if i in expected else DWConv2d)
        assert type(block.mlp.fc2) is nn.Linear
    assert model(images())[0].isfinite().all()


@pytest.mark.parametrize('layers', [(), ('fc1',), ('fc2',), ('dwconv',), ['fc1', 'fc2', 'dwconv']])
def test_dynamic_layers(layers):
    model = build(dynamic_layers=layers)
    block = model.blocks[1]
    assert type(block) is DynamicBlock
    assert isinstance(block.mlp.fc1, DynamicLinear) == ('fc1' in layers)
    assert isinstance(block.mlp.fc2, DynamicLinear) == ('fc2' in layers)
    assert isinstance(block.dwconv, DynamicDWConv2d) == ('dwconv' in layers)
    assert model(images())[0].isfinite().all()


@pytest.mark.parametrize('name', LINEAR_PREDICTORS)
def test_the_requested_linear_predictor_is_built(name):
    model = build(linear_predictor=name, dynamic_layers=('fc1', 'fc2'))
    assert type(model.blocks[1].mlp.fc1.predictor) is LINEAR_PREDICTORS[name]
    assert type(model.blocks[1].mlp.fc2.predictor) is LINEAR_PREDICTORS[name]
    assert model(images())[0].isfinite().all()


@pytest.mark.parametrize('name', DWCONV_PREDICTORS)
def test_the_requested_dwconv_predictor_is_built(name):
    model = build(dwconv_predictor=name)
    assert type(model.blocks[1].dwconv.predictor) is DWCONV_PREDICTORS[name]
    assert model(images())[0].isfinite().all()


# Bad arguments ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(arch='huge'), "base', 'small', 'tiny'.*'huge'"),
        (dict(arch=dict(embed_dims=16, depth=5)), 'mlp_ratio'),
        (dict(arch=dict(ARCH, heads=3)), 'heads'),
        (dict(out_type='cls_token'), "'featmap', 'avg_featmap', 'raw'.*'cls_token'"),
        (dict(out_indices=5), r'\[-5, 4\].*got 5'),
        (dict(out_indices=(-6,)), r'\[-5, 4\].*got -6'),
        (dict(out_indices=()), 'increasing'),
        (dict(out_indices=(3, 1)), r'increasing.*\(3, 1\)'),
        (dict(out_indices=(4, -1)), 'increasing'),
        (dict(dynamic_blocks='every-second'), "'every-third', 'all', 'none'.*'every-second'"),
        (dict(dynamic_blocks=[5]), r'dynamic_blocks in \[-5, 4\].*got 5'),
        (dict(dynamic_layers=('fc3',)), "'fc1', 'fc2', 'dwconv'.*'fc3'"),
        (dict(dynamic_layers='fc1'), "list of names in .*'fc1'"),
        (dict(linear_predictor='magic'), "'bilateral'.*'magic'"),
        (dict(dwconv_predictor='magic'), "'adaptive'.*'magic'"),
        (dict(arch=dict(ARCH, embed_dims=18, mlp_ratio=2)), 'multiples of 4, got 18 -> 36'),
        (dict(drop_rate=1.0), r'drop_rate in \[0, 1\), got 1.0'),
        (dict(drop_path_rate=-0.1), r'drop_path_rate in \[0, 1\), got -0.1'),
        (dict(frozen_stages=6), r'\[-1, 5\].*got 6'),
        (dict(frozen_stages=-2), r'\[-1, 5\].*got -2'),
    ],
)
def test_a_bad_argument_is_rejected_with_what_was_expected(kwargs, message):
    with pytest.raises(ValueError, match=message):
        build(**kwargs)


def test_an_unknown_argument_is_rejected():
    with pytest.raises(TypeError, match='img_size'):
        build(img_size=224)
