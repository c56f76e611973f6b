"""The static layers, and the order of the layers in the blocks."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close
from torchvision.ops import StochasticDepth

from mmwf.models.layers import (
    DropPath,
    DWConv2d,
    DynamicBlock,
    DynamicDWConv2d,
    DynamicLinear,
    Mlp,
    PatchEmbed,
    StaticBlock,
)

GRIDS = [(1, 1), (1, 7), (5, 1), (7, 5)]


def test_patch_embed_projects_each_patch():
    embed = PatchEmbed(3, 8, patch_size=4).double()
    image = torch.randn(2, 3, 8, 12, dtype=torch.float64)
    tokens = embed(image)
    assert tokens.shape == (2, 2, 3, 8)
    patch = image[1, :, 4:8, 8:12]
    expected = torch.einsum('cij,dcij->d', patch, embed.proj.weight) + embed.proj.bias
    assert_close(tokens[1, 1, 2], expected)


@pytest.mark.parametrize(('height', 'width'), [(1, 1), (16, 17), (31, 5), (50, 33)])
def test_patch_embed_pads_with_zeros_at_the_right_and_bottom(height, width):
    embed = PatchEmbed(3, 8, patch_size=16)
    image = torch.randn(2, 3, height, width)
    padded = torch.zeros(2, 3, (height + 15) // 16 * 16, (width + 15) // 16 * 16)
    padded[:, :, :height, :width] = image
    assert_close(embed(image), embed(padded), rtol=0, atol=0)


@pytest.mark.parametrize('grid', GRIDS)
@pytest.mark.parametrize('kernel_size', [3, 5])
def test_dwconv_convolves_each_channel_of_a_token_grid(grid, kernel_size):
    conv = DWConv2d(4, kernel_size)
    x = torch.randn(2, *grid, 4)
    out = conv(x)
    assert out.shape == x.shape
    for c in range(4):
        expected = F.conv2d(
            x[..., c].unsqueeze(1),
            conv.weight[c : c + 1],
            conv.bias[c : c + 1],
            padding=kernel_size // 2,
        )
        assert_close(out[..., c], expected[:, 0])


def test_drop_path_is_the_identity_in_evaluation_and_at_rate_zero():
    x = torch.randn(4, 3)
    assert DropPath(0.9).eval()(x) is x
    assert DropPath(0.0).train()(x) is x


def test_drop_path_keeps_the_expected_value():
    out = DropPath(0.25)(torch.ones(20000, 1))
    assert out.unique().tolist() == pytest.approx([0, 1 / 0.75])
    assert out.mean().item() == pytest.approx(1, abs=0.02)  # five standard deviations


def test_drop_path_drops_whole_images():
    x = torch.rand(64, 3, 2, 5) + 1
    out = DropPath(0.5)(x)
    dropped = (out == 0).flatten(1)
    assert (dropped.all(1) == dropped.any(1)).all()
    assert 0 < dropped.all(1).sum() < 64
    kept = ~dropped.all(1)
    assert_close(out[kept], x[kept] * 2)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_drop_path_keeps_half_precision(dtype):
    assert DropPath(0.5)(torch.ones(4, 2, dtype=dtype)).dtype == dtype


@pytest.mark.parametrize('training', [True, False])
def test_drop_path_is_the_row_mode_of_torchvision(training):
    x = torch.randn(64, 3, 2, 5)
    torch.manual_seed(1)
    expected = StochasticDepth(0.2, mode='row').train(training)(x)
    torch.manual_seed(1)
    assert torch.equal(DropPath(0.2).train(training)(x), expected)


def test_mlp_uses_the_exact_gelu():
    mlp = Mlp(nn.Linear(4, 8), nn.Linear(8, 4)).double()
    x = torch.randn(2, 3, 5, 4, dtype=torch.float64)
    hidden = x @ mlp.fc1.weight.T + mlp.fc1.bias
    hidden = hidden * (1 + torch.erf(hidden / 2**0.5)) / 2
    assert_close(mlp(x), hidden @ mlp.fc2.weight.T + mlp.fc2.bias)


def test_mlp_drops_after_both_layers_in_training_only():
    ones = torch.ones(1, 10, 10, 4)
    mlp = Mlp(nn.Identity(), nn.Identity(), drop_rate=0.5)
    gelu = F.gelu(torch.ones(())).item()
    values = {round(v, 4) for v in mlp(ones).unique().tolist()}
    assert values == {0.0, round(4 * gelu, 4)}  # each dropout doubles kept values
    assert_close(mlp.eval()(ones), ones * gelu)


class Scale(nn.Module):
    """A dummy layer, recognisable by its factor."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return self.factor * x


class Shift(nn.Module):
    def forward(self, x):
        return x + 1


def test_a_static_block_adds_both_branches_to_its_input():
    # The input of dwconv is x itself; norm2 is before the MLP and not in the residual stream.
    block = StaticBlock(dwconv=Scale(2), norm2=Shift(), mlp=Scale(5))
    x = torch.randn(2, 3, 3, 4)
    assert_close(block(x), 3 * x + 5 * (3 * x + 1))


def test_a_dynamic_block_adds_both_branches_to_its_normalised_input():
    block = DynamicBlock(norm1=Scale(-7), dwconv=Scale(2), norm2=Shift(), mlp=Scale(5))
    x = torch.randn(2, 3, 3, 4)
    y = -7 * x
    assert_close(block(x), 3 * y + 5 * (3 * y + 1))


@pytest.mark.parametrize('block_type', [StaticBlock, DynamicBlock])
def test_drop_path_acts_on_the_mlp_branch_only(block_type):
    norm1 = {} if block_type is StaticBlock else dict(norm1=nn.Identity())
    block = block_type(
        dwconv=Scale(2), norm2=nn.Identity(), mlp=Scale(5), drop_path_rate=0.5, **norm1
    )
    out = block(torch.ones(64, 1, 1, 1)).flatten()
    assert set(out.tolist()) == {3.0, 3.0 + 2 * 15.0}  # MLP dropped or doubled, dwconv always
    assert set(block.eval()(torch.ones(64, 1, 1, 1)).flatten().tolist()) == {18.0}


def layer_by_layer(block, x):
    if isinstance(block, DynamicBlock):
        x = block.norm1(x)
    x = x + block.dwconv(x)
    return x + block.mlp(block.norm2(x))


def small_block(dynamic):
    dwconv = DynamicDWConv2d(4) if dynamic else DWConv2d(4)
    mlp = Mlp(nn.Linear(4, 8), nn.Linear(8, 4))
    return StaticBlock(dwconv=dwconv, norm2=nn.LayerNorm(4, eps=0.1), mlp=mlp)


@pytest.mark.parametrize('dynamic', [False, True])
@pytest.mark.parametrize('autocast', [False, True])
def test_a_block_computes_what_its_layers_compute(dynamic, autocast):
    block, x = small_block(dynamic), torch.randn(2, 5, 3, 4)
    results = []
    for forward in (block, lambda x: layer_by_layer(block, x)):
        with torch.autocast('cpu', torch.bfloat16, enabled=autocast):
            out = forward(x)
        results.append([out, *torch.autograd.grad(out.float().sum(), block.parameters())])
    for actual, expected in zip(*results, strict=True):
        assert actual.dtype == expected.dtype
        assert torch.equal(actual, expected)


@pytest.mark.parametrize('grid', [(2, 2), (12, 12)])  # both orders of the low-rank product
@pytest.mark.parametrize('layer', ['linear', 'dwconv'])
def test_dynamic_layers_infer_under_autocast(grid, layer, randomize):
    block = small_block(dynamic=layer == 'dwconv')
    if layer == 'linear':
        block.mlp.fc1 = DynamicLinear(4, 8)
    randomize(block)
    x = torch.randn(2, *grid, 4)
    expected = block.eval()(x)
    with torch.inference_mode(), torch.autocast('cpu', torch.bfloat16):
        assert_close(block(x).float(), expected, rtol=0.05, atol=0.05)


@pytest.mark.parametrize('name', ['dwconv', 'norm2'])
def test_a_block_calls_layers_that_have_hooks_or_were_replaced(name):
    block, x, calls = small_block(dynamic=False), torch.randn(2, 5, 3, 4), []
    with block.get_submodule(name).register_forward_hook(lambda *args: calls.append(args)):
        block(x)
    assert len(calls) == 1
    setattr(block, name, Scale(2))
    assert_close(block(x), layer_by_layer(block, x))


def test_a_block_accepts_a_norm_without_bias():
    block, x = small_block(dynamic=False), torch.randn(2, 5, 3, 4)
    block.norm2 = nn.LayerNorm(4, bias=False)
    assert_close(block(x), layer_by_layer(block, x))


def mlp_layer_by_layer(mlp, x):
    return mlp.drop(mlp.fc2(mlp.drop(mlp.act(mlp.fc1(x)))))


@pytest.mark.parametrize('name', ['fc1', 'act', 'fc2', 'drop'])
def test_an_mlp_calls_layers_that_have_hooks_or_were_replaced(name):
    mlp, x, calls = Mlp(nn.Linear(4, 8), nn.Linear(8, 4)), torch.randn(2, 5, 3, 4), []
    with mlp.get_submodule(name).register_forward_hook(lambda *args: calls.append(args)):
        mlp(x)
    assert len(calls) == (2 if name == 'drop' else 1)
    replacement = nn.Sequential(mlp.get_submodule(name), Scale(2))
    expected = mlp(x)
    setattr(mlp, name, replacement)
    assert (mlp(x) - expected).abs().max() > 1e-4
    assert_close(mlp(x), mlp_layer_by_layer(mlp, x))


@pytest.mark.parametrize('biases', [(False, True), (True, False)])
def test_an_mlp_accepts_linear_layers_without_bias(biases):
    mlp = Mlp(nn.Linear(4, 8, bias=biases[0]), nn.Linear(8, 4, bias=biases[1]))
    x = torch.randn(2, 5, 3, 4)
    assert_close(mlp(x), mlp_layer_by_layer(mlp, x))


def test_an_mlp_in_training_applies_its_dropout():
    mlp, x = Mlp(nn.Linear(4, 8), nn.Linear(8, 4), drop_rate=0.5), torch.ones(4, 8, 8, 4)
    assert (mlp(x) == 0).float().mean() > 0.3
    assert (mlp.eval()(x) == 0).sum() == 0
