import cv2
import numpy as np
import pytest
import torch
from mmcv.transforms import Compose
from mmengine.config import Config
from mmengine.dataset import default_collate
from mmengine.registry import DefaultScope
from mmengine.runner import load_checkpoint
from mmpretrain.registry import MODELS
from PIL import Image
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from mmwf.errors import UserError
from mmwf.evaluation.extractors import build_extractor
from mmwf.libraries import import_task_library


@pytest.fixture
def images():
    return torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)


def test_a_classifier_gives_the_scores_of_mmpretrain(classifier, images, tmp_path):
    extractor = build_extractor(classifier).requires_grad_(False)
    features, logits = extractor(images)
    assert features.shape == (3, 16)
    head = extractor.model.head.fc
    assert torch.allclose(features @ head.weight.T + head.bias, logits, atol=1e-6)
    cfg = Config.fromfile(classifier['config'])
    import_task_library(cfg)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        cfg.model.data_preprocessor = cfg.data_preprocessor
        model = MODELS.build(cfg.model).eval()
        pipeline = Compose(cfg.test_dataloader.dataset.pipeline)
    load_checkpoint(model, classifier['checkpoint'])
    items = []
    for i, image in enumerate(images):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(tmp_path / f'{i}.png')
        items.append(pipeline(dict(img_path=str(tmp_path / f'{i}.png'))))
    with torch.no_grad():
        results = model.test_step(default_collate(items))
    expected = torch.stack([result.pred_score for result in results])
    assert torch.allclose(logits.softmax(1), expected, atol=1e-6)


def test_images_may_be_enlarged_for_a_classifier(classifier, images):
    small = images[:, :, :8, :8]
    large = [
        cv2.resize(image.permute(1, 2, 0).numpy(), (32, 32), interpolation=cv2.INTER_CUBIC)
        for image in small
    ]
    large = torch.from_numpy(np.stack(large)).permute(0, 3, 1, 2)
    resizing = build_extractor(dict(classifier, image_size=32))
    assert torch.equal(resizing(small)[1], build_extractor(classifier)(large)[1])
    assert resizing.description['image_size'] == 32


def test_the_description_identifies_the_weights(classifier, tmp_path):
    first = build_extractor(classifier).description
    checkpoint = torch.load(classifier['checkpoint'])
    checkpoint['state_dict']['head.fc.bias'] += 1
    torch.save(checkpoint, tmp_path / 'other.pth')
    second = build_extractor(dict(classifier, checkpoint=str(tmp_path / 'other.pth'))).description
    assert first['config'] == second['config'] == classifier['config']
    assert len(first['weights_hash']) == 16
    assert first['weights_hash'] != second['weights_hash']


def test_a_missing_checkpoint_is_an_error_that_says_how_to_train_it(classifier):
    with pytest.raises(UserError, match=r'(?s)no checkpoint none\.pth.*tools/train\.py .*toy\.py'):
        build_extractor(dict(classifier, checkpoint='none.pth'))


def test_a_missing_config_is_an_error(classifier):
    with pytest.raises(UserError, match=r'(?s)generated images: .*none\.py.*extractor\.config'):
        build_extractor(dict(classifier, config='none.py'))


def test_weights_of_another_classifier_are_an_error(classifier, tmp_path):
    checkpoint = torch.load(classifier['checkpoint'])
    del checkpoint['state_dict']['head.fc.bias']
    torch.save(checkpoint, tmp_path / 'other.pth')
    with pytest.raises(UserError, match=r'does not fit .*toy\.py.*missing: head\.fc\.bias'):
        build_extractor(dict(classifier, checkpoint=str(tmp_path / 'other.pth')))


def test_inception_gives_features_and_unbiased_logits(tmp_path, images, monkeypatch):
    path = tmp_path / 'inception.pth'
    torch.save({}, path)
    with monkeypatch.context() as patch:
        patch.setattr(FeatureExtractorInceptionV3, 'load_state_dict', lambda self, state: None)
        network = FeatureExtractorInceptionV3('inception-v3-compat', ['2048'], path)
    torch.save(network.state_dict(), path)
    extractor = build_extractor(dict(type='inception', weights=str(path)))
    features, logits = extractor(images[:1])
    assert torch.equal(features, network(images[:1])[0])
    assert torch.allclose(logits, features @ network.fc.weight.T, atol=1e-5)


@pytest.mark.parametrize('content', [None, {}, 'no weights'])
def test_without_the_inception_weights_an_error_says_what_to_download(tmp_path, content):
    path = tmp_path / 'inception.pth'
    if content is not None:
        torch.save(content, path)
    with pytest.raises(UserError, match=r'(?s)Download its weights from https://.*weights=FILE'):
        build_extractor(dict(type='inception', weights=str(path)))


def test_no_code_in_the_inception_file_is_executed(tmp_path):
    path = tmp_path / 'inception.pth'
    torch.save({'fc.bias': print}, path)
    with pytest.raises(UserError, match='was not unpickled'):
        build_extractor(dict(type='inception', weights=str(path)))


def test_an_unknown_extractor_is_an_error_that_lists_the_known():
    with pytest.raises(ValueError, match=r"\['inception', 'classifier'\], got 'vgg'"):
        build_extractor(dict(type='vgg'))
