"""Converting checkpoints: released weights <-> ours, DeiT -> ViTDet."""

import errno
import os

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope

from mmwf.apis import convert_deit, convert_released
from mmwf.checkpoints import read_checkpoint
from mmwf.errors import UserError
from mmwf.libraries import import_task_library

ARCH = dict(embed_dims=16, num_layers=3, num_heads=2, feedforward_channels=32)


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_released_weights_survive_a_round_trip(released_weights, tmp_path, suffix):
    src, ours, back = tmp_path / 'a.pth', tmp_path / 'new' / 'b.pth', tmp_path / f'c{suffix}'
    torch.save({'model': released_weights}, src)
    matched = f'{len(released_weights)} of {len(released_weights)} keys matched'
    assert matched in convert_released(str(src), str(ours))
    assert matched in convert_released(str(ours), str(back), reverse=True)
    first, second = (read_checkpoint(path)['state_dict'] for path in (src, back))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not list(tmp_path.rglob('*.part'))


def test_incomplete_or_unrelated_weights_are_an_error_and_write_nothing(released_weights, tmp_path):
    src, dst = str(tmp_path / 'a.pth'), tmp_path / 'b.pth'
    released_weights.pop('blocks.1.linear1.w1')
    torch.save({'model': released_weights}, src)
    with pytest.raises(UserError, match='not a complete .* missing: backbone.*fc1.predictor.u'):
        convert_released(src, str(dst))
    torch.save({'weight': torch.zeros(1)}, src)
    with pytest.raises(UserError, match='is not a WeightFormer classifier or denoiser'):
        convert_released(src, str(dst))
    assert not dst.exists()


def test_a_conversion_that_fails_halfway_keeps_the_older_file(
    released_weights, tmp_path, monkeypatch
):
    def fill_the_disk(descriptor):
        raise OSError(errno.ENOSPC, 'No space left on device')

    src, dst = tmp_path / 'a.pth', tmp_path / 'b.pth'
    torch.save({'model': released_weights}, src)
    dst.write_bytes(b'older')
    monkeypatch.setattr(os, 'fsync', fill_the_disk)
    with pytest.raises(UserError, match=f'Cannot write {dst}: No space'):
        convert_released(str(src), str(dst))
    assert dst.read_bytes() == b'older'


@pytest.mark.parametrize(
    ('dst', 'reverse', 'expected'),
    [('b.safetensors', False, r'end in \.pth, got'), ('b.bin', True, r'\.pth or \.safetensors')],
)
def test_another_suffix_is_an_error(dst, reverse, expected):
    with pytest.raises(UserError, match=expected):
        convert_released('a.pth', dst, reverse=reverse)


@pytest.fixture
def models():
    """A DeiT with and one without class token, for 56 x 56, and the ViTDet backbone to match."""
    import_task_library(dict(default_scope='mmpretrain'))
    vit = dict(type='VisionTransformer', arch=ARCH, img_size=56, patch_size=4)
    sam = dict(
        type='ViTSAM',
        arch=dict(ARCH, global_attn_indexes=[1]),
        img_size=56,
        patch_size=4,
        out_channels=0,
        use_rel_pos=False,
    )
    plain = dict(vit, with_cls_token=False, out_type='featmap', final_norm=False)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        models = {'vit': MODELS.build(vit), 'plain': MODELS.build(plain), 'sam': MODELS.build(sam)}
    for model in models.values():
        model.eval()
    return models


def save(model, path):
    state_dict = {f'backbone.{key}': value for key, value in model.state_dict().items()}
    torch.save(dict(meta={}, state_dict=state_dict), path)
    return str(path)


def test_with_one_window_over_the_whole_image_vitdet_computes_the_same(models, tmp_path):
    torch.manual_seed(0)
    for parameter in models['plain'].parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    convert_deit(save(models['plain'], tmp_path / 'a.pth'), str(tmp_path / 'b.pth'))
    state_dict = torch.load(tmp_path / 'b.pth', weights_only=True)['state_dict']
    models['sam'].load_state_dict(state_dict)  # strict
    image = torch.randn(2, 3, 56, 56)
    (expected,), (got,) = models['plain'](image), models['sam'](image)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_the_position_embedding_of_the_class_token_is_dropped(models, tmp_path):
    positions = torch.arange(197.0).view(1, 197, 1).expand(1, 197, 16)
    models['vit'].pos_embed.data = positions.clone()
    convert_deit(save(models['vit'], tmp_path / 'a.pth'), str(tmp_path / 'b.pth'))
    state_dict = torch.load(tmp_path / 'b.pth', weights_only=True)['state_dict']
    models['sam'].load_state_dict(state_dict)
    assert torch.equal(state_dict['pos_embed'][0, ..., 0], torch.arange(1.0, 197).view(14, 14))


def test_weights_of_another_model_are_an_error(tmp_path):
    torch.save(dict(meta={}, state_dict={'weight': torch.zeros(1)}), tmp_path / 'a.pth')
    with pytest.raises(UserError, match='a.pth: not a DeiT from mmpretrain: .*got weight'):
        convert_deit(str(tmp_path / 'a.pth'), str(tmp_path / 'b.pth'))
    with pytest.raises(UserError, match='There is no checkpoint'):
        convert_deit(str(tmp_path / 'none.pth'), str(tmp_path / 'b.pth'))
