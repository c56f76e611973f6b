"""The denoiser against tensors of the released model and parameter counts of the DiT paper."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.testing import assert_close

from mmwf import ops
from mmwf.apis.conversion import convert_released
from mmwf.checkpoints import read_checkpoint
from mmwf.checkpoints.released_keys import mmwf_to_released, released_to_mmwf
from mmwf.errors import UserError
from mmwf.models import Denoiser

DATA = Path(__file__).parents[1] / 'data'
ARCHS = {
    'weightformer': dict(embed_dims=16, depth=3, mlp_ratio=2),
    'dit': dict(embed_dims=16, depth=3, mlp_ratio=2, num_heads=2),
}
archs = pytest.mark.parametrize('arch', ARCHS.values(), ids=ARCHS)


@pytest.fixture(scope='module')
def golden():
    """Parameters, inputs and outputs of the released denoiser."""
    return load_file(DATA / 'weightformer_dit_h48_d5_in8.safetensors')


@pytest.fixture(scope='module')
def time_features():
    """The released sinusoidal features of the time steps in the golden file.

    In fp32, exp, sin and cos depend on the CPU. These were computed by MKL's code path for all CPUs
    (``MKL_CBWR=COMPATIBLE``), with which the golden outputs are reproduced to 1e-14.
    """
    return load_file(DATA / 'weightformer_dit_time_features.safetensors')


@pytest.fixture
def released_weights(golden):
    return {k.removeprefix('param/'): v for k, v in golden.items() if k.startswith('param/')}


class TimeFeatures(nn.Module):
    """Looks up the given features of time steps."""

    def __init__(self, timesteps, features):
        super().__init__()
        self.features = dict(zip(timesteps.tolist(), features, strict=True))

    def forward(self, timesteps):
        return torch.stack([self.features[t] for t in timesteps.tolist()])


@pytest.fixture
def released(released_weights, time_features):
    arch = dict(embed_dims=48, depth=5, mlp_ratio=4)
    model = Denoiser(arch, input_size=8, patch_size=2, num_classes=10)
    weights = released_to_mmwf(released_weights)
    model.load_state_dict({k.removeprefix('denoiser.'): v for k, v in weights.items()})
    model.time_embed.time_proj = TimeFeatures(**time_features)
    return model.eval()


def build(arch, **kwargs):
    return Denoiser(arch, **dict(dict(input_size=4, patch_size=2, num_classes=5), **kwargs))


def batch(size=3, channels=4, side=4):
    return torch.randn(size, channels, side, side), torch.arange(size) * 300, torch.arange(size)


def relative_error(actual, expected):
    assert actual.shape == expected.shape
    return ((actual - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize('backend', sorted(ops.BACKENDS))
@pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
@torch.no_grad()
def test_outputs_are_those_of_the_released_model(released, golden, backend, dtype, tolerance):
    released.to(dtype)
    with ops.use_backend(backend):
        out = released(golden['input'].to(dtype), golden['t'], golden['y'])
    assert relative_error(out, golden['output']) < tolerance


@torch.no_grad()
def test_guidance_is_that_of_the_released_model(released, golden):
    """The released batch holds each image twice, with its label and with the null label."""
    x, t, y = (golden[f'cfg_{name}'][:1] for name in ('input', 't', 'y'))
    expected = golden['cfg_output']
    assert relative_error(released.forward_guided(x, t, y, 4.0), expected[:1]) < 1e-5
    unconditional = released(x, t, torch.tensor([10]))
    assert_close(unconditional[:, 3:], expected[1:, 3:].float(), rtol=1e-5, atol=1e-5)
    assert_close(released.forward_guided(x, t, y, 1.0), released(x, t, y))


def test_time_features_are_the_released_ones(time_features):
    time_proj = build(ARCHS['weightformer']).time_embed.time_proj
    features = time_proj(time_features['timesteps'])
    assert_close(features, time_features['features'], rtol=0, atol=5e-4)


def test_the_position_embedding_is_the_released_one(released_weights):
    model = Denoiser(dict(embed_dims=48, depth=1, mlp_ratio=4), input_size=8, patch_size=2)
    assert_close(model.pos_embed, released_weights['pos_embed'])


def test_released_keys_survive_a_round_trip_through_a_file(released_weights, released, tmp_path):
    ours = released_to_mmwf(released_weights)
    assert set(ours) == {f'denoiser.{key}' for key in released.state_dict()}
    back = mmwf_to_released(ours)
    assert list(back) == list(released_weights)
    assert all(torch.equal(back[key], released_weights[key]) for key in back)
    for name, content in (('bare', back), ('training', dict(ema=back, model={}, opt={}))):
        torch.save(content, tmp_path / name)
        assert set(read_checkpoint(tmp_path / name)['state_dict']) == set(ours)


def test_the_tool_converts_a_released_file_both_ways(released_weights, tmp_path):
    src, ours, back = (str(tmp_path / name) for name in ('a.pth', 'b.pth', 'c.safetensors'))
    torch.save(dict(model=released_weights), src)
    count = len(released_weights)
    assert f'{count} of {count} keys matched' in convert_released(src, ours)
    assert f'{count} of {count} keys matched' in convert_released(ours, back, reverse=True)
    result = load_file(back)
    assert result.keys() == released_weights.keys()
    assert all(torch.equal(result[key], value) for key, value in released_weights.items())
    del released_weights['blocks.1.linear1.w1']
    torch.save(released_weights, src)
    with pytest.raises(UserError, match='missing: denoiser.blocks.1.mlp.fc1.predictor.u'):
        convert_released(src, ours)


def test_a_key_without_counterpart_is_named(released_weights):
    with pytest.raises(ValueError, match='blocks.0.attn.qkv.weight.*denoiser'):
        released_to_mmwf(released_weights | {'blocks.0.attn.qkv.weight': torch.zeros(1)})
    with pytest.raises(ValueError, match='blocks.0.attn.qkv.weight.*no counterpart'):
        mmwf_to_released({f'denoiser.{k}': v for k, v in build(ARCHS['dit']).state_dict().items()})


# DiT's paper (arXiv 2212.09748, table 4) gives 33 M for S/2 and 130 M for B/2.
@pytest.mark.parametrize(('arch', 'millions'), [('dit-small', 33), ('dit-base', 130)])
def test_the_baseline_has_the_parameters_of_its_paper(arch, millions):
    with torch.device('meta'):
        parameters = sum(p.numel() for p in Denoiser(arch).parameters())
    assert round(parameters / 1e6) == millions


@archs
def test_weights_are_initialised_as_in_dit(arch):
    model = build(dict(arch, embed_dims=64), num_classes=500)
    time_mlp = model.time_embed.mlp
    for layer in (model.label_embed, time_mlp[0], time_mlp[2]):
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.1)
    mixer = model.blocks[0].attn.qkv if 'num_heads' in arch else model.blocks[0].mlp.fc1
    for weight in (mixer.weight, model.blocks[0].mlp.fc2.weight, model.patch_embed.proj.weight):
        fan_out, fan_in = weight.flatten(1).shape
        assert weight.std().item() == pytest.approx((2 / (fan_in + fan_out)) ** 0.5, rel=0.05)
    linears = [m for m in model.modules() if isinstance(m, nn.Linear)]
    assert not any(layer.bias.any() for layer in (*linears, model.patch_embed.proj))


@archs
def test_outputs_are_zero_at_first_and_every_parameter_is_trained(arch):
    model = build(arch)
    x, timesteps, labels = batch()
    assert not model(x, timesteps, labels).any()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for _ in range(3):  # gradients reach the output layer first, then the gates, then the rest
        optimizer.zero_grad()
        (model(x, timesteps, labels) - 1).pow(2).mean().backward()
        optimizer.step()
    unchanged = [name for name, p in model.named_parameters() if torch.equal(p, before[name])]
    assert not unchanged


@archs
def test_gradient_checkpointing_recomputes_blocks_and_changes_no_gradient(arch, randomize):
    grads, runs = [], []
    for with_cp in (False, True):
        torch.manual_seed(0)
        model = randomize(build(arch, with_cp=with_cp))
        model.blocks[1].register_forward_pre_hook(lambda *args, cp=with_cp: runs.append(cp))
        model(*batch()).pow(2).sum().backward()
        grads.append([p.grad for p in model.parameters()])
    assert_close(grads[0], grads[1])
    assert runs == [False, True, True]


@archs
@torch.no_grad()
def test_an_image_depends_only_on_its_own_label_and_time_step(arch, randomize):
    model = randomize(build(arch)).eval()
    x, timesteps, labels = batch()
    out = model(x, timesteps, labels)
    assert_close(model(x[1:2], timesteps[1:2], labels[1:2]), out[1:2])
    for other in (model(x, timesteps + 1, labels), model(x, timesteps, labels.flip(0))):
        assert not torch.allclose(other[0], out[0], atol=1e-4)


@torch.no_grad()
def test_labels_are_dropped_in_training_only(randomize):
    model = randomize(build(ARCHS['weightformer'], label_drop_rate=0.25))
    x, timesteps = torch.randn(1, 4, 4, 4).expand(400, -1, -1, -1), torch.zeros(400)
    labels = torch.full((400,), 2)
    conditional, unconditional = model.eval()(x[:2], timesteps[:2], torch.tensor([2, 5]))
    in_training = model.train()(x, timesteps, labels)
    dropped = (in_training - unconditional).abs().amax(dim=(1, 2, 3)) < 1e-4
    assert 0.18 < dropped.float().mean() < 0.32
    kept = in_training[~dropped]
    assert_close(kept, conditional.expand_as(kept), rtol=1e-4, atol=1e-4)


def test_guidance_requires_label_dropout():
    model = build(ARCHS['weightformer'], label_drop_rate=0.0)
    assert len(model.label_embed.weight) == 5
    with pytest.raises(ValueError, match='label_drop_rate > 0'):
        model.forward_guided(*batch(), cfg_scale=2.0)


def test_inputs_of_another_shape_are_rejected():
    x, timesteps, labels = batch(side=8)
    with pytest.raises(ValueError, match=r'\(batch, 4, 4, 4\), got \(3, 4, 8, 8\)'):
        build(ARCHS['dit'])(x, timesteps, labels)


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(arch='small'), 'weightformer-small'),
        (dict(arch=dict(embed_dims=16)), 'mlp_ratio'),
        (dict(arch=dict(embed_dims=18, depth=1, mlp_ratio=2)), 'multiple of 4'),
        (dict(arch=dict(embed_dims=16, depth=1, mlp_ratio=2, num_heads=3)), 'num_heads'),
        (dict(input_size=9), 'multiple of patch_size'),
        (dict(label_drop_rate=1.0), r'\[0, 1\)'),
    ],
)
def test_a_wrong_argument_is_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        build(**dict(dict(arch=ARCHS['weightformer']), **kwargs))
