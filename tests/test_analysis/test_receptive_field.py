"""Effective receptive fields, against known ones."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from mmwf.analysis.receptive_field import effective_receptive_field, square_side
from mmwf.models import WeightFormer

DEPTH, PATCH = 3, 4


def weightformer(**kwargs):
    arch = dict(embed_dims=8, depth=DEPTH, mlp_ratio=1)
    return WeightFormer(arch, patch_size=PATCH, **kwargs).double()


def images(size, number=2):
    return torch.randn(number, 3, size, size).double()


def test_one_convolution_gives_its_kernel():
    conv = nn.Conv2d(2, 1, 3, padding=1, bias=False)
    nn.init.uniform_(conv.weight, 0.5, 1)  # so that positive images give a positive output
    with torch.no_grad():
        conv.weight[0, 0] *= -1e-3  # a negative influence counts too
    expected = torch.zeros(7, 9)
    expected[2:5, 3:6] = conv.weight[0].abs().sum(dim=0)
    batches = [torch.rand(2, 2, 7, 9) + 1, torch.rand(1, 2, 7, 9) + 1]
    assert_close(effective_receptive_field(conv, batches), expected.double())
    assert square_side(expected, 1.0) == 3


def test_the_response_is_the_derivative_of_the_central_token(randomize):
    """Against finite differences."""
    model, batch, step = randomize(weightformer()).eval(), images(12, 1), 1e-6
    field = effective_receptive_field(model, [batch])
    for row, column in ((0, 0), (5, 6), (11, 3)):
        expected = 0
        for channel in range(3):
            responses = []
            for sign in (1, -1):
                moved = batch.clone()
                moved[0, channel, row, column] += sign * step
                responses.append(model(moved)[0][0, :, 1, 1].clamp(min=0).sum())
            expected += (responses[0] - responses[1]).abs().item() / (2 * step)
        assert field[row, column].item() == pytest.approx(expected, rel=1e-5)


def test_a_static_network_sees_the_pixels_its_convolutions_reach(randomize):
    model = randomize(weightformer(dynamic_blocks='none'))
    field = effective_receptive_field(model, [images(11 * PATCH)])
    reached = torch.zeros(11, 11)
    reached[5 - DEPTH : 5 + DEPTH + 1, 5 - DEPTH : 5 + DEPTH + 1] = 1
    reached = reached.repeat_interleave(PATCH, 0).repeat_interleave(PATCH, 1).bool()
    assert torch.equal(field > 0, reached)
    assert square_side(field, 1.0) == (2 * DEPTH + 1) * PATCH


@pytest.mark.parametrize('layers', [('fc1',), ('dwconv',)])
def test_a_dynamic_network_sees_every_pixel(layers, randomize):
    model = randomize(weightformer(dynamic_blocks=[1], dynamic_layers=layers))
    assert (effective_receptive_field(model, [images(12 * PATCH)]) > 0).all()


def test_it_is_not_zero_after_a_layer_norm_at_initialisation():
    """The output of the norm sums to zero over the channels for any image."""
    model = weightformer()
    assert model(images(12))[0].sum(dim=1).abs().max() < 1e-12
    assert effective_receptive_field(model, [images(12)])[4:8, 4:8].min() > 1e-6


def test_the_batch_size_does_not_matter(randomize):
    model, batch = randomize(weightformer(drop_rate=0.5)).train(), images(12, 3)
    whole = effective_receptive_field(model, [batch])
    assert_close(effective_receptive_field(model, [batch[:1], batch[1:]]), whole)
    single = [effective_receptive_field(model, [image]) for image in batch.split(1)]
    assert_close(torch.stack(single).mean(dim=0), whole)


@pytest.mark.parametrize(
    ('shape', 'share', 'side'),
    [
        ((9, 9), 1 / 81, 1),
        ((9, 9), 9 / 81, 3),
        ((9, 9), 9.5 / 81, 5),
        ((9, 9), 1, 9),
        ((8, 8), 4 / 64, 2),
        ((8, 8), 5 / 64, 4),
        ((4, 10), 16 / 40, 4),
        ((4, 10), 17 / 40, 6),  # the square is cut off above and below
        ((4, 10), 1, 10),
    ],
)
def test_the_squares_of_an_even_field_are_arithmetic(shape, share, side):
    assert square_side(torch.ones(shape), share) == side


def test_errors_say_what_was_expected():
    with pytest.raises(ValueError, match=r'feature map \(B, C, H, W\), got \(2, 8\)'):
        effective_receptive_field(weightformer(out_type='avg_featmap'), [images(8)])
    with pytest.raises(ValueError, match='Expected at least one image'):
        effective_receptive_field(weightformer(), [])
    with pytest.raises(ValueError, match=r'share in \(0, 1\], got 99'):
        square_side(torch.ones(3, 3), 99)
    with pytest.raises(ValueError, match='positive sum, got 0.0'):
        square_side(torch.zeros(3, 3), 0.5)
