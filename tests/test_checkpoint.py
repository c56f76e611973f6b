"""Reading checkpoints of every kind, and loading them into models."""

import sys
import types

import pytest
import torch
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.runner import load_checkpoint
from safetensors.torch import save_file
from torch import nn
from torch.testing import assert_close

from mmwf import checkpoint
from mmwf.checkpoint import match_keys, read_checkpoint
from mmwf.models import WeightFormer
from mmwf.released_keys import released_to_mmwf


@pytest.fixture
def logged(monkeypatch):
    """Collects what is logged."""
    messages = []
    monkeypatch.setattr(checkpoint, 'print_log', lambda message, **kwargs: messages.append(message))
    return messages


def assert_same_weights(actual, expected):
    assert list(actual) == list(expected)
    assert all(torch.equal(actual[key], expected[key]) for key in expected)


# Files --------------------------------------------------------------------------------------------


def save_safetensors(weights, path):
    save_file(weights, path.with_suffix('.safetensors'))
    return path.with_suffix('.safetensors')


def save_pth(wrap):
    def save(weights, path):
        torch.save(wrap(weights), path)
        return path

    return save


FORMATS = {
    'safetensors': save_safetensors,
    'bare': save_pth(lambda w: w),
    'model': save_pth(lambda w: {'model': w, 'epoch': 3}),
    'state_dict': save_pth(lambda w: {'state_dict': w}),
    'parameters': save_pth(lambda w: {k: nn.Parameter(v) for k, v in w.items()}),
    'ddp': save_pth(lambda w: {'model': {f'module.{k}': v for k, v in w.items()}}),
}


@pytest.mark.parametrize('save', FORMATS.values(), ids=FORMATS.keys())
@pytest.mark.parametrize('released', [True, False], ids=['released', 'ours'])
def test_weights_are_found_in_every_format(tmp_path, released_weights, save, released):
    ours = released_to_mmwf(released_weights)
    path = save(released_weights if released else ours, tmp_path / 'checkpoint.pth')
    for spelling in (path, str(path)):
        assert_same_weights(
            {k: v.detach() for k, v in sorted(read_checkpoint(spelling)['state_dict'].items())},
            dict(sorted(ours.items())),
        )


def test_the_older_torch_format_is_read(tmp_path, released_weights):
    path = tmp_path / 'old.pth'
    torch.save({'model': released_weights}, path, _use_new_zipfile_serialization=False)
    assert_same_weights(read_checkpoint(path)['state_dict'], released_to_mmwf(released_weights))


def test_what_is_beside_the_weights_is_kept(tmp_path, released_weights):
    torch.save({'model': released_weights, 'epoch': 3}, tmp_path / 'checkpoint.pth')
    assert read_checkpoint(tmp_path / 'checkpoint.pth')['epoch'] == 3


def test_a_training_checkpoint_of_mmengine_is_read_whole(tmp_path):
    model = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    hub = MessageHub('test_checkpoint')
    for loss in (3.0, 1.0):
        hub.update_scalar('train/loss', loss)
    hub.update_info('epoch', 7)
    state = dict(
        meta=dict(epoch=7, iter=70, cfg='model = dict()', seed=1, dataset_meta=dict(classes=['a'])),
        state_dict=model.state_dict(),
        message_hub=hub.state_dict(),
        optimizer=optimizer.state_dict(),
        param_schedulers=[dict(last_step=3)],
    )
    torch.save(state, tmp_path / 'epoch_7.pth')
    loaded = read_checkpoint(tmp_path / 'epoch_7.pth')
    assert loaded['meta'] == state['meta']
    assert_same_weights(loaded['state_dict'], state['state_dict'])
    buffer = loaded['message_hub']['log_scalars']['train/loss']
    assert isinstance(buffer, HistoryBuffer)
    assert (buffer.mean(), buffer.current()) == (2.0, 1.0)
    assert loaded['message_hub']['runtime_info']['epoch'] == 7
    optimizer.load_state_dict(loaded['optimizer'])


def test_the_hub_is_asked_for_the_models_safetensors(tmp_path, monkeypatch, released_weights):
    save_file(released_weights, tmp_path / 'downloaded.safetensors')
    asked = []

    def hf_hub_download(repo_id, filename):
        asked.append((repo_id, filename))
        return str(tmp_path / 'downloaded.safetensors')

    hub = types.SimpleNamespace(hf_hub_download=hf_hub_download)
    monkeypatch.setitem(sys.modules, 'huggingface_hub', hub)
    state_dict = read_checkpoint('hf://owner/weightformer-t')['state_dict']
    assert asked == [('owner/weightformer-t', 'model.safetensors')]
    assert 'backbone.norm.weight' in state_dict


# Matching and loading -----------------------------------------------------------------------------


def test_match_keys_tells_what_is_missing_unexpected_and_mismatched():
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


def test_a_last_norm_that_the_backbone_lacks_may_be_left_over(released_file, golden, golden_arch):
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
def test_weights_of_another_arch_are_refused(released_file, golden_arch, change, kwargs, named):
    with pytest.raises(ValueError, match=f'does not fit this WeightFormer.*{named}'):
        build_pretrained({**golden_arch, **change}, released_file, **kwargs)


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


def test_the_hash_tells_weights_apart_and_not_their_order():
    weights = {'a': torch.randn(2, 3), 'b': torch.tensor(4)}
    value = checkpoint.hash_weights(weights)
    assert len(value) == 16
    assert checkpoint.hash_weights({'b': weights['b'], 'a': weights['a'].clone()}) == value
    for change in (
        {'a': weights['a'] + 1e-6},
        {'a': weights['a'].reshape(3, 2)},
        {'a': weights['a'].double()},
        {'c': torch.tensor(0)},
    ):
        assert checkpoint.hash_weights({**weights, **change}) != value
