"""DeiT weights in the backbone of the detection baselines."""

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope

import mmwf  # noqa: F401
from mmwf.apis.convert import convert_deit
from mmwf.apis.environment import UserError, import_task_library

ARCH = dict(embed_dims=16, num_layers=3, num_heads=2, feedforward_channels=32)


@pytest.fixture
def models():
    """A DeiT with and without class token at 56 x 56, and the windowed form of the same size."""
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


def test_one_window_over_the_whole_image_is_the_same_network(models, tmp_path):
    torch.manual_seed(0)
    for parameter in models['plain'].parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    convert_deit(save(models['plain'], tmp_path / 'a.pth'), str(tmp_path / 'b.pth'))
    state_dict = torch.load(tmp_path / 'b.pth', weights_only=True)['state_dict']
    models['sam'].load_state_dict(state_dict)  # strict: nothing missing, nothing left over
    image = torch.randn(2, 3, 56, 56)
    (expected,), (got,) = models['plain'](image), models['sam'](image)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_the_position_of_the_class_token_is_left_out(models, tmp_path):
    positions = torch.arange(197.0).view(1, 197, 1).expand(1, 197, 16)
    models['vit'].pos_embed.data = positions.clone()
    convert_deit(save(models['vit'], tmp_path / 'a.pth'), str(tmp_path / 'b.pth'))
    state_dict = torch.load(tmp_path / 'b.pth', weights_only=True)['state_dict']
    models['sam'].load_state_dict(state_dict)
    assert torch.equal(state_dict['pos_embed'][0, ..., 0], torch.arange(1.0, 197).view(14, 14))


def test_another_file_is_an_error(tmp_path):
    torch.save(dict(meta={}, state_dict={'weight': torch.zeros(1)}), tmp_path / 'a.pth')
    with pytest.raises(UserError, match="is no DeiT of mmpretrain's: .*got weight"):
        convert_deit(str(tmp_path / 'a.pth'), str(tmp_path / 'b.pth'))
    with pytest.raises(UserError, match='There is no checkpoint'):
        convert_deit(str(tmp_path / 'none.pth'), str(tmp_path / 'b.pth'))
