"""Sampling with ``sample``."""

import pytest
import torch

from mmwf.apis import init_model, sample
from mmwf.engine.config import load_config
from mmwf.errors import UserError

CONFIG = 'configs/quickstart/dit_weightformer-w64d6-p2_1xb64-1500i_digits-8px.py'
LABELS = [3, 8, 3, 0, 1]


@pytest.fixture
def model(randomize):
    cfg = load_config(CONFIG, {'model.test_cfg.num_steps': 2})
    cfg.model.denoiser.arch = dict(embed_dims=8, depth=2, mlp_ratio=2)
    return randomize(init_model(cfg, device='cpu'), std=0.1)


def test_the_images_do_not_depend_on_the_batch_size(model):
    images = sample(model, LABELS)
    assert images.shape == (5, 3, 8, 8) and images.dtype == torch.uint8
    assert images.float().std() > 10
    for batch_size in (1, 2, 5):
        difference = sample(model, LABELS, batch_size).int() - images.int()
        assert difference.abs().max() <= 1


def test_a_label_out_of_range_is_an_error(model):
    with pytest.raises(UserError, match='labels from 0 to 9 .*got 10'):
        sample(model, [10])


@pytest.mark.parametrize(('labels', 'batch_size'), [([], 1), ([1], 0)])
def test_nothing_to_sample_is_an_error(model, labels, batch_size):
    with pytest.raises(ValueError, match=f'got {len(labels)} labels and batch_size={batch_size}'):
        sample(model, labels, batch_size)
