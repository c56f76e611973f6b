"""The nearest-neighbour classifier, against scikit-learn's."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from mmwf.errors import UserError
from mmwf.models import KNNHead
from mmwf.models.heads import knn_head


@pytest.fixture
def data():
    """Features and labels of 100 stored images of 4 classes, and features of 30 others."""
    features = torch.randn(130, 6) + 0.5
    return features[:100], torch.randint(4, (100,)), features[100:]


@pytest.mark.parametrize('chunk_size', [7, 100, 1000])
@pytest.mark.parametrize(('k', 'temperature'), [(1, 0.07), (20, 0.07), (100, 0.5)])
def test_the_scores_are_those_of_scikit_learn(data, k, temperature, chunk_size, monkeypatch):
    monkeypatch.setattr(knn_head, 'CHUNK_SIZE', chunk_size)
    stored, labels, queries = data
    head = KNNHead(num_classes=4, k=k, temperature=temperature)
    head.store(stored.clone(), labels)
    scores = head((torch.zeros(30, 2), queries))
    reference = KNeighborsClassifier(
        k, metric='cosine', weights=lambda distance: np.exp((1 - distance) / temperature)
    ).fit(stored.double().numpy(), labels.numpy())
    expected = torch.from_numpy(reference.predict_proba(queries.double().numpy())).float()
    torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-5)


def test_a_query_is_compared_with_one_chunk_at_a_time(data, monkeypatch):
    monkeypatch.setattr(knn_head, 'CHUNK_SIZE', 10)
    stored, labels, queries = data
    head = KNNHead(num_classes=4, k=5)
    head.store(stored, labels)
    widths = []
    topk = torch.Tensor.topk
    monkeypatch.setattr(
        torch.Tensor, 'topk', lambda x, *a, **k: widths.append(x.shape[1]) or topk(x, *a, **k)
    )
    head((queries,))
    assert widths == [10] + [15] * 9


def test_the_stored_images_are_not_part_of_a_checkpoint(data):
    head = KNNHead(num_classes=4)
    head.store(*data[:2])
    assert not head.state_dict()


def test_too_few_images_are_an_error(data):
    with pytest.raises(UserError, match='at least k=20 images to compare with, got 19'):
        KNNHead(num_classes=4).store(data[0][:19], data[1][:19])


@pytest.mark.parametrize('label', [-1, 4])
def test_a_label_out_of_range_is_an_error(data, label):
    features, labels, _ = data
    labels[3] = label
    with pytest.raises(UserError, match='labels from 0 to 3'):
        KNNHead(num_classes=4).store(features, labels)


def test_nothing_stored_is_an_error(data):
    with pytest.raises(UserError, match='bank_dataloader and custom_hooks'):
        KNNHead(num_classes=4)((data[2],))


@pytest.mark.parametrize('argument', ['num_classes', 'k', 'temperature'])
def test_arguments_are_positive(argument):
    with pytest.raises(ValueError, match='to be positive'):
        KNNHead(**{'num_classes': 4, argument: 0})
