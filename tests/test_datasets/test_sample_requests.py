from collections import Counter

from mmengine.registry import DATASETS


def test_classes_take_turns_unless_there_is_a_seed():
    requests = dict(type='mmwf.SampleRequests', num_samples=1000, num_classes=10)

    def labels(**kwargs):
        dataset = DATASETS.build(dict(requests, **kwargs))
        samples = [dataset[i]['data_samples'] for i in range(len(dataset))]
        assert [s.index for s in samples] == list(range(1000))
        return [s.label for s in samples]

    assert labels() == [i % 10 for i in range(1000)]
    assert labels(seed=0) == labels(seed=0) != labels(seed=1)
    assert all(60 < count < 140 for count in Counter(labels(seed=0)).values())
