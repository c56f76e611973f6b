import json

import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.structures import BaseDataElement
from PIL import Image

from mmwf.errors import UserError
from mmwf.evaluation.extractors import build_extractor
from mmwf.evaluation.generation import frechet_distance, inception_score, precision_recall

PROTOCOL = dict(sampler='ddim', num_steps=50, cfg_scale=2.0, seed=0)
RNG = np.random.default_rng(0)


def features_with(mean, covariance, count=64):
    """Features whose mean and covariance are exactly these."""
    noise = RNG.standard_normal((count, len(mean)))
    noise -= noise.mean(0)
    white = noise @ np.linalg.inv(np.linalg.cholesky(np.cov(noise, rowvar=False))).T
    return white @ np.linalg.cholesky(covariance).T + mean


def test_fid_of_two_gaussians_has_its_closed_form():
    mean, variances = np.array([1.0, -2.0, 0.5]), np.array([4.0, 0.25, 9.0])
    features = features_with(mean, np.diag(variances))
    other_mean, other_variances = np.array([0.0, 1.0, 0.5]), np.array([1.0, 2.25, 9.0])
    # Diagonal covariances commute: |m1 - m2|^2 + sum (s1 - s2)^2.
    expected = ((mean - other_mean) ** 2).sum()
    expected += ((np.sqrt(variances) - np.sqrt(other_variances)) ** 2).sum()
    assert frechet_distance(features, other_mean, np.diag(other_variances)) == pytest.approx(
        expected, abs=1e-9
    )


def test_fid_of_correlated_gaussians_has_its_closed_form():
    # With sigma2 = I: trace of (sigma1^(1/2) - I)^2.
    root = np.array([[2.0, 0.5], [0.5, 1.0]])
    features = features_with(np.zeros(2), root @ root)
    expected = ((root - np.eye(2)) ** 2).sum()
    assert frechet_distance(features, np.zeros(2), np.eye(2)) == pytest.approx(expected, abs=1e-9)


def test_fid_of_a_set_with_itself_is_zero():
    features = RNG.standard_normal((200, 32)).astype(np.float32) * 5 + 100
    mean, sigma = features.astype(float).mean(0), np.cov(features.astype(float), rowvar=False)
    assert frechet_distance(features, mean, sigma) == pytest.approx(0, abs=1e-6)


def test_inception_score_is_one_if_nothing_is_recognised():
    assert inception_score(np.zeros((50, 10))) == pytest.approx(1)


def test_inception_score_is_the_class_count_if_all_are_recognised():
    assert inception_score(np.tile(np.eye(10) * 100, (5, 1)), splits=1) == pytest.approx(10)


def test_precision_and_recall_of_the_same_set_are_one():
    features = RNG.standard_normal((50, 8)).astype(np.float32)
    assert precision_recall(features, features) == (1, 1)


def test_precision_and_recall_of_far_sets_are_zero():
    features = RNG.standard_normal((50, 8)).astype(np.float32)
    assert precision_recall(features, features + 100) == (0, 0)


def test_precision_looks_at_the_generated_and_recall_at_the_real():
    # Real images in two clusters; the generated ones are all in the first.
    cluster = RNG.standard_normal((40, 8)).astype(np.float32)
    real = np.concatenate([cluster, cluster[:20] + 100])
    assert precision_recall(cluster, real) == (1, pytest.approx(2 / 3))
    assert precision_recall(real, cluster) == (pytest.approx(2 / 3), 1)


@pytest.fixture
def images():
    """24 images of four coloured squares each."""
    colors = RNG.integers(0, 256, (24, 3, 2, 2), dtype=np.uint8)
    return torch.from_numpy(colors.repeat(16, 2).repeat(16, 3))


@pytest.fixture
def real(images, tmp_path):
    """The same images as files, some of them in a subfolder."""
    for i, image in enumerate(images):
        path = tmp_path / 'real' / ('odd' * (i % 2)) / f'{i}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    return str(tmp_path / 'real')


def evaluate(images, labels=None, size=None, **settings):
    """Builds the metric and gives it images in batches of 10, as a model in predict mode does."""
    evaluator = Evaluator(dict(type='mmwf.GenerationMetric', **settings))
    labels = [0] * len(images) if labels is None else labels
    samples = [
        BaseDataElement(image=image, label=label, metainfo=dict(protocol=PROTOCOL))
        for image, label in zip(images, labels, strict=True)
    ]
    for start in range(0, len(samples), 10):
        evaluator.process(samples[start : start + 10], None)
    return evaluator.evaluate(size or len(images))


def test_the_real_images_themselves_have_perfect_scores(images, real, classifier):
    metric = ['recall', 'fid', 'precision']
    result = evaluate(images, real=real, extractor=classifier, metric=metric)
    assert result.pop('protocol')['num_real'] == 24
    assert result == dict(fid=pytest.approx(0, abs=1e-5), precision=1, recall=1)


def test_other_images_have_worse_scores(images, real, classifier):
    result = evaluate(images // 8, real=real, extractor=classifier, metric=['fid', 'precision'])
    assert result['fid'] > 1e-3  # 100 times the tolerance for the real images themselves
    assert result['precision'] == 0


def test_real_images_are_cropped_to_the_size_of_the_generated(images, classifier, tmp_path):
    for i, image in enumerate(images):
        wide = torch.nn.functional.pad(image, (7, 7))
        Image.fromarray(wide.permute(1, 2, 0).numpy()).save(tmp_path / f'{i}.png')
    result = evaluate(images, real=str(tmp_path), extractor=classifier, metric=['fid'])
    assert result['fid'] == pytest.approx(0, abs=1e-5)


def test_class_accuracy_is_the_share_of_images_classified_as_their_label(images, classifier):
    predicted = build_extractor(classifier)(images)[1].argmax(1)
    assert len(predicted.unique()) > 1
    labels = [*predicted[:18].tolist(), *((predicted[18:] + 1) % 10).tolist()]
    result = evaluate(images, labels, extractor=classifier, metric=['class_accuracy'])
    assert result['class_accuracy'] == 18 / 24


def test_repeated_samples_count_once(images, classifier):
    settings = dict(extractor=classifier, metric=['class_accuracy', 'inception_score'])
    expected = evaluate(images, **settings)
    repeated = torch.cat([images, images[:3]])
    assert evaluate(repeated, size=24, **settings) == expected


def test_the_result_has_the_protocol_and_is_json(images, real, classifier):
    result = evaluate(images, real=real, extractor=classifier, metric=['fid'])
    protocol = json.loads(json.dumps(result))['protocol']
    weights_hash = protocol['extractor'].pop('weights_hash')
    assert len(weights_hash) == 16
    assert protocol == dict(
        num_samples=24,
        **PROTOCOL,
        extractor=dict(classifier, image_size=None),
        real=real,
        num_real=24,
    )


def test_published_statistics_replace_real_images(images, classifier, tmp_path):
    path = str(tmp_path / 'stats.npz')
    np.savez(path, mu=np.zeros(16), sigma=np.eye(16), arr_0=np.zeros(3))
    settings = dict(extractor=classifier, real=path)
    assert evaluate(images, metric=['fid'], **settings)['fid'] > 0
    with pytest.raises(ValueError, match='Precision and recall need images'):
        evaluate(images, metric=['fid', 'recall'], **settings)
    np.savez(path, mu=np.zeros(2048), sigma=np.eye(2048))
    evaluator = Evaluator(dict(type='mmwf.GenerationMetric', metric=['fid'], **settings))
    sample = BaseDataElement(image=images[0], label=0, metainfo=dict(protocol=PROTOCOL))
    with pytest.raises(UserError, match='2048 features, but the extractor has 16'):
        evaluator.process([sample], None)  # the first batch, not after 50,000 samples


@pytest.mark.parametrize('content', [None, b'', b'PK\x03\x04 truncated'])
def test_unreadable_statistics_are_an_error(classifier, tmp_path, content):
    path = tmp_path / 'stats.npz'
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r'Cannot read the statistics .*stats\.npz'):
        evaluate([], extractor=classifier, real=str(path), metric=['fid'])


def test_no_real_images_are_an_error_that_names_the_folder(classifier, tmp_path):
    for real in (None, str(tmp_path), 'nowhere'):
        with pytest.raises(UserError, match=f'at least 2 real images in {real} .*got 0'):
            evaluate([], extractor=classifier, real=real, metric=['fid'])


@pytest.mark.parametrize('metric, needed', [('fid', 2), ('recall', 4), ('inception_score', 10)])
def test_too_few_samples_are_an_error(images, real, classifier, metric, needed):
    settings = dict(real=real, extractor=classifier, metric=[metric])
    assert metric in evaluate(images[:needed], **settings)
    with pytest.raises(ValueError, match=f'at least {needed} samples for {metric}, got'):
        evaluate(images[: needed - 1], **settings)


def test_an_unknown_metric_is_an_error(classifier):
    with pytest.raises(ValueError, match=r"'class_accuracy'\), got \['sfid'\]"):
        evaluate([], extractor=classifier, metric=['sfid'])


def test_it_does_not_need_mmseg(run_python):
    done = run_python(
        'import sys\n'
        "sys.modules['mmseg'] = None  # importing it raises ImportError\n"
        'import mmwf\n'
        'from mmengine.registry import METRICS\n'
        "print(METRICS.get('mmwf.GenerationMetric').__name__)\n"
    )
    assert done.stdout.strip() == 'GenerationMetric', done.stderr
