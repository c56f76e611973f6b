"""Loading models with ``init_model``."""

from pathlib import Path

import pytest
import torch
from mmengine.registry import DefaultScope
from safetensors.torch import load_file
from torch.testing import assert_close

from mmwf.apis import init_model
from mmwf.engine.config import load_config
from mmwf.errors import UserError

ROOT = Path(__file__).parents[2]
CLASSIFIER = 'configs/classification/weightformer-tiny-p16_8xb256_in1k.py'
DIGITS = 'configs/quickstart/weightformer-w64d8-p4_1xb64-20e_digits-32px.py'
DIFFUSION = 'configs/quickstart/dit_weightformer-w64d6-p2_1xb64-1500i_digits-8px.py'


@pytest.fixture
def golden_config(golden_arch):
    cfg = load_config(CLASSIFIER)
    cfg.model.backbone.arch = golden_arch
    cfg.model.head.update(in_channels=32, num_classes=10)
    return cfg


def test_released_weights_give_the_released_logits(
    golden_config, golden, released_weights, tmp_path
):
    path = str(tmp_path / 'released.pth')
    torch.save({'model': released_weights}, path)
    model = init_model(golden_config, path, device='cpu')
    assert not model.training
    with torch.no_grad():
        logits = model.double()(golden['input'].double())
    assert_close(logits, golden['logits'].double(), rtol=1e-9, atol=1e-9)


def test_a_training_checkpoint_is_loaded_with_its_classes(tmp_path):
    trained = init_model(DIGITS, device='cpu')
    meta = dict(dataset_meta=dict(classes=['a', 'b']))
    torch.save(dict(meta=meta, state_dict=trained.state_dict()), tmp_path / 'epoch_1.pth')
    model = init_model(DIGITS, str(tmp_path / 'epoch_1.pth'), device='cpu')
    for key, value in model.state_dict().items():
        assert torch.equal(value, trained.state_dict()[key])
    assert model.dataset_meta == dict(classes=['a', 'b'])
    assert model.cfg.default_scope == 'mmpretrain'


def test_released_weights_of_a_diffusion_model_are_loaded_unchanged(tmp_path):
    golden = load_file(ROOT / 'tests/data/weightformer_dit_h48_d5_in8.safetensors')
    weights = {k.removeprefix('param/'): v for k, v in golden.items() if k.startswith('param/')}
    torch.save(dict(model=weights), tmp_path / 'released.pth')
    cfg = load_config(DIFFUSION)
    cfg.model.denoiser.update(arch=dict(embed_dims=48, depth=5, mlp_ratio=4), in_channels=4)
    model = init_model(cfg, str(tmp_path / 'released.pth'), device='cpu')
    assert type(model).__name__ == 'GaussianDiffusion'
    expected = weights['blocks.1.linear1.w']
    assert torch.equal(model.denoiser.blocks[1].mlp.fc1.weight, expected)
    assert model.dataset_meta is None


def test_the_model_has_the_preprocessor_of_the_config():
    preprocessor = init_model(DIGITS, device='cpu').data_preprocessor
    assert preprocessor.mean.flatten().tolist() == [127.5] * 3


def test_the_default_scope_and_the_config_do_not_change():
    cfg = load_config(DIGITS)
    before = cfg.pretty_text
    init_model(cfg, device='cpu')
    assert DefaultScope.get_current_instance().scope_name == 'mmengine'
    assert cfg.pretty_text == before


def test_weights_that_do_not_match_are_an_error(tmp_path):
    path = str(tmp_path / 'other.pth')
    state_dict = init_model(DIGITS, device='cpu').state_dict()
    state_dict.pop('head.fc.bias')
    torch.save(dict(meta={}, state_dict=state_dict), path)
    with pytest.raises(UserError, match=r'other\.pth does not fit .* missing: head\.fc\.bias'):
        init_model(DIGITS, path, device='cpu')


def test_a_missing_file_is_an_error():
    with pytest.raises(UserError, match=r'There is no checkpoint nowhere\.pth'):
        init_model(DIGITS, 'nowhere.pth')
    with pytest.raises(UserError, match=r'There is no config nowhere\.py'):
        init_model('nowhere.py')
