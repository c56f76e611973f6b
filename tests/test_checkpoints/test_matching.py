"""Comparing the weights of checkpoints with those of models, and loading them."""

import pytest
import torch
from mmengine.runner import load_checkpoint
from torch import nn
from torch.testing import assert_close

from mmwf.checkpoints import check_pretrained, hash_weights, match_keys, matching
from mmwf.errors import UserError
from mmwf.models import WeightFormer


@pytest.fixture
def logged(monkeypatch):
    """Collects the log messages."""
    messages = []
    monkeypatch.setattr(matching, 'print_log', lambda message, **kwargs: messages.append(message))
    return messages


def test_match_keys_lists_missing_unexpected_and_mismatched_keys():
    expected = {'a': torch.zeros(2), 'b': torch.zeros(3), 'c': torch.zeros(4)}
    match = match_keys(expected, {'a': torch.zeros(2), 'b': torch.zeros(5), 'd': torch.zeros(1)})
    assert (match.num_matched, match.num_expected) == (1, 3)
    assert (match.missing, match.unexpected) == (['c'], ['d'])
    assert str(match) == (
        '1 of 3 keys matched; missing: c; unexpected: d; mismatched: b (5,) (expected (3,))'
    )


@pytest.fixture
def released_file(tmp_path, released_weights):
    torch.save({'model': released_weights}, tmp_path / 'released.pth')
    return str(tmp_path / 'released.pth')


def build_pretrained(arch, file, prefix=None, **kwargs):
    init_cfg = dict(type='Pretrained', checkpoint=file)
    if prefix is not None:
        init_cfg['prefix'] = prefix
    model = WeightFormer(arch, init_cfg=init_cfg, **kwargs)
    model.init_weights()
    return model


@pytest.mark.parametrize('prefix', [None, 'backbone', 'backbone.'])
def test_init_cfg_loads_released_weights(released_file, golden, golden_arch, prefix, logged):
    model = build_pretrained(golden_arch, released_file, prefix, out_type='raw')
    assert_close(model(golden['input'])[0], golden['tokens'].float(), rtol=1e-4, atol=1e-4)
    count = len(model.state_dict())
    assert f'{count} of {count} keys matched' in logged[-1]


def test_a_backbone_without_last_norm_ignores_that_of_the_checkpoint(
    released_file, golden, golden_arch
):
    model = build_pretrained(golden_arch, released_file, final_norm=False, out_indices=0)
    assert_close(
        model(golden['input'])[0].flatten(2).transpose(1, 2),
        golden['block_out/0'].float(),
        rtol=1e-4,
        atol=1e-4,
    )


@pytest.mark.parametrize(
    ('change', 'kwargs', 'named'),
    [
        (dict(embed_dims=64), {}, r'mismatched: .*\(32, 3, 16, 16\) \(expected \(64, 3, 16, 16\)'),
        (dict(depth=8), {}, r'missing: blocks\.'),
        (dict(depth=2), {}, r'unexpected: .*blocks\.2'),
        ({}, dict(dynamic_blocks='all'), r'missing: .*blocks\.0\.'),
        ({}, dict(prefix='student'), 'missing: patch_embed.proj.weight'),
    ],
)
def test_weights_of_another_arch_are_rejected(released_file, golden_arch, change, kwargs, named):
    with pytest.raises(ValueError, match=f'does not fit this WeightFormer.*{named}'):
        build_pretrained({**golden_arch, **change}, released_file, **kwargs)


def test_the_head_beside_a_bare_backbone_is_ignored(golden_arch, tmp_path):
    source = WeightFormer(golden_arch)
    content = {**source.state_dict(), 'head.fc.weight': torch.zeros(3, 32)}
    torch.save(content, tmp_path / 'bare.pth')
    model = build_pretrained(golden_arch, str(tmp_path / 'bare.pth'))
    assert torch.equal(model.patch_embed.proj.weight, source.patch_embed.proj.weight)


@pytest.mark.parametrize(
    ('key', 'fits'),
    [('pos_embed', True), ('rel_pos_h', True), ('rel_pos_w', True), ('weight', False)],
)
def test_only_position_embeddings_may_have_another_shape(key, fits, tmp_path):
    path = str(tmp_path / 'a.pth')
    torch.save(dict(state_dict={key: torch.zeros(3, 2)}), path)
    module = nn.Module()
    module.register_parameter(key, nn.Parameter(torch.zeros(4, 2)))
    module.init_cfg = dict(type='Pretrained', checkpoint=path)
    if fits:
        assert check_pretrained(module).is_exact
    else:
        with pytest.raises(UserError, match=r'mismatched: weight \(3, 2\) \(expected \(4, 2\)'):
            check_pretrained(module)


@pytest.mark.parametrize(
    ('neck', 'out_type'), [(None, 'avg_featmap'), (dict(type='GlobalAveragePooling'), 'featmap')]
)
def test_mmengine_loads_released_weights_into_a_classifier(
    released_file, golden, golden_arch, neck, out_type
):
    from mmengine.registry import init_default_scope
    from mmpretrain.registry import MODELS

    init_default_scope('mmpretrain')
    model = MODELS.build(
        dict(
            type='ImageClassifier',
            backbone=dict(type='mmwf.WeightFormer', arch=golden_arch, out_type=out_type),
            neck=neck,
            head=dict(type='LinearClsHead', num_classes=10, in_channels=32),
        )
    ).double()
    load_checkpoint(model, released_file, strict=True)
    with torch.no_grad():
        logits = model.head(model.extract_feat(golden['input'].double()))
    assert_close(logits, golden['logits'], rtol=1e-9, atol=1e-9)


def test_the_hash_depends_on_the_weights_but_not_on_their_order():
    weights = {'a': torch.randn(2, 3), 'b': torch.tensor(4)}
    value = hash_weights(weights)
    assert len(value) == 16
    assert hash_weights({'b': weights['b'], 'a': weights['a'].clone()}) == value
    for change in (
        {'a': weights['a'] + 1e-6},
        {'a': weights['a'].reshape(3, 2)},
        {'a': weights['a'].double()},
        {'c': torch.tensor(0)},
    ):
        assert hash_weights({**weights, **change}) != value
