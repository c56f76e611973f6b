import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from mmwf.libraries import import_task_library

LEAF = 'configs/quickstart/weightformer-w64d8-p4_1xb64-20e_digits-32px.py'


@pytest.fixture(scope='session')
def classifier(request, tmp_path_factory):
    """Settings of an extractor: a small classifier of ten classes with random weights."""
    folder = tmp_path_factory.mktemp('classifier')
    arch = dict(embed_dims=16, depth=3, mlp_ratio=2)
    config = folder / 'toy.py'
    config.write_text(
        f'_base_ = {str(request.config.rootpath / LEAF)!r}\n'
        f'model = dict(backbone=dict(arch={arch}), head=dict(in_channels=16))\n'
    )
    cfg = Config.fromfile(config)
    import_task_library(cfg)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(cfg.model)
    for parameter in model.parameters():
        if parameter.dim() > 1:  # without biases, so that images make a difference
            torch.nn.init.normal_(parameter, std=0.3)
    torch.save(dict(meta={}, state_dict=model.state_dict()), folder / 'toy.pth')
    return dict(type='classifier', config=str(config), checkpoint=str(folder / 'toy.pth'))
