"""Backbones by name."""

import pytest
import torch

from mmwf import ops
from mmwf.analysis.named_models import build_named, check_name
from mmwf.errors import UserError


@pytest.mark.parametrize(
    ('name', 'expected'),
    [
        ('resnet', 'Expected one of weightformer-tiny, .*; got resnet'),
        ('timm:resnet', 'timm .* has no model resnet'),
        ('configs/classification/deit-tinny.py', 'Did you mean'),
        ('configs/_base_/datasets/digits.py', 'Expected a config whose model has a backbone'),
    ],
)
def test_an_unknown_model_is_an_error(name, expected):
    with pytest.raises(UserError, match=expected):
        check_name(name)


@pytest.mark.parametrize(
    ('name', 'tokens'),
    [
        ('weightformer-tiny', None),
        ('weightformer-tiny-p16_static_8xb256_in1k', None),
        ('timm:weightformer_tiny', None),
        ('deit-tiny', 6 * 6 + 1),
        ('timm-plain:deit_tiny_patch16_224', 6 * 6 + 1),
        ('timm:deit_tiny_patch16_224', 6 * 6 + 1),  # last: timm's default
    ],
)
@torch.no_grad()
def test_models_run_at_the_requested_size(name, tokens):
    model = build_named(name, 96)
    out = model(torch.randn(1, 3, 96, 96))
    assert (out if isinstance(out, torch.Tensor) else out[-1]).shape == (1, 192)
    assert tokens is None or model.pos_embed.shape[1] == tokens
    if tokens and name.startswith('timm'):
        assert model.blocks[0].attn.fused_attn == (name.split(':')[0] == 'timm')


def test_plain_evaluates_a_model_with_the_plain_backend():
    with ops.use_backend('eager'):
        build_named('plain:weightformer-tiny', 32)
        assert ops.get_backend() == 'plain'
    check_name('plain:weightformer-tiny')
    with pytest.raises(UserError, match='got weightformer-huge'):
        check_name('plain:weightformer-huge')
