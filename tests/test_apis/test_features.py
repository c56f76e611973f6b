"""Features of pictures."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close
from toy_checkpoints import make_checkpoint

from mmwf.apis import extract_features, init_model
from mmwf.apis.features import TokenReader
from mmwf.errors import UserError

DIGITS = list('0123456789')
RNG = np.random.default_rng(0)


def noise(height=32, width=32):
    return RNG.integers(0, 255, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def classifier(tmp_path):
    return init_model(*make_checkpoint('*digits-32px.py', DIGITS, tmp_path), 'cpu')


def as_inputs(image):
    return (torch.tensor(image).permute(2, 0, 1)[None].float() - 127.5) / 127.5


def test_a_layer_that_is_named_twice_is_read_once(classifier):
    assert TokenReader(classifier, ['-1', 7, 'norm', '-8']).layers == ['7', 'norm', '0']


@pytest.mark.parametrize('batch_size', [1, 4])
def test_the_mean_after_the_norm_is_what_the_classifier_sees(classifier, batch_size):
    images = [noise(), noise(24, 40), noise(), noise()]
    features = extract_features(classifier, images, batch_size=batch_size)
    with torch.no_grad():
        expected = [classifier.extract_feat(as_inputs(image))[-1][0] for image in images]
    assert features.keys() == {'norm'}
    assert_close(features['norm'], torch.stack(expected), atol=1e-5, rtol=1e-5)


def test_the_tokens_of_a_block_are_its_output(classifier):
    image, backbone = noise(24, 40), classifier.backbone
    features = extract_features(classifier, [image], [0, -2, '3', 'norm'], tokens=True)
    assert list(features) == ['0', '6', '3', 'norm']
    backbone.out_type, backbone.out_indices = 'featmap', (0, 3, 6, 7)
    with torch.no_grad():
        maps = backbone(as_inputs(image))
    for name, expected in zip(('0', '3', '6', 'norm'), maps, strict=True):
        assert features[name][0].shape == (6, 10, 64)
        assert_close(features[name][0], expected[0].permute(1, 2, 0))


def test_what_the_model_pads_is_left_out(tmp_path):
    model = init_model(*make_checkpoint('vitdet*', DIGITS, tmp_path), 'cpu')
    (tokens,) = extract_features(model, [noise(64, 40)], tokens=True)['norm']
    assert tokens.shape == (16, 10, 64)  # padded: 16 x 16


@pytest.mark.parametrize('layer', ['8', -9, 'head', '1.5'])
def test_a_layer_that_does_not_exist_is_an_error(classifier, layer):
    with pytest.raises(UserError, match=f"'norm' or a block from -8 to 7, got {layer!r}"):
        extract_features(classifier, [noise()], [layer])


def test_a_model_without_a_weightformer_is_an_error():
    with pytest.raises(UserError, match='backbone is a WeightFormer, got Linear'):
        TokenReader(torch.nn.Linear(1, 1))


def test_no_hook_remains(classifier):
    extract_features(classifier, [noise()], [2])
    assert not classifier.backbone.blocks[2]._forward_hooks
