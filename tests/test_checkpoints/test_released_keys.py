"""Renaming the keys of released weights to ours and back."""

import pytest
import torch

from mmwf.checkpoints.released_keys import is_released, mmwf_to_released, released_to_mmwf
from mmwf.models import WeightFormer


def test_released_keys_survive_a_round_trip(released_weights):
    ours = released_to_mmwf(released_weights)
    back = mmwf_to_released(ours)
    assert list(back) == list(released_weights)
    assert all(torch.equal(back[key], released_weights[key]) for key in back)
    assert is_released(released_weights) and not is_released(ours)


def test_released_weights_match_the_classifier_exactly(released_weights, golden_arch):
    expected = {f'backbone.{k}' for k in WeightFormer(golden_arch).state_dict()}
    assert set(released_to_mmwf(released_weights)) == expected | {'head.fc.weight', 'head.fc.bias'}


@pytest.mark.parametrize(
    'key',
    [
        'pos_embed',
        'blocks.0.attn.qkv.weight',
        'blocks.0.norm3.weight',
        'blocks.0.linear1.wfm.0.weight',
        'blocks.0.dwc.wfm.1.weight',
        'x.norm.weight',
    ],
)
def test_a_key_of_another_model_is_named(key):
    with pytest.raises(ValueError, match=key):
        released_to_mmwf({key: torch.zeros(1)})


@pytest.mark.parametrize(
    'key',
    ['neck.weight', 'backbone.blocks.0.mlp.fc1.predictor.mlp.0.weight', 'head.fc.linear.weight'],
)
def test_a_key_without_a_released_counterpart_is_named(key):
    with pytest.raises(ValueError, match=f'{key}.*no counterpart'):
        mmwf_to_released({key: torch.zeros(1)})
