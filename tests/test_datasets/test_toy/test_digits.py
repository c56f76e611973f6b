import cv2
import numpy as np
from sklearn.datasets import load_digits

from mmwf.datasets.toy.digits import split_digits, write_digits


def test_the_split_holds_every_digit_once():
    split = split_digits()
    scans = np.concatenate([split['train'][0], split['val'][0]])
    assert len(split['val'][0]) == 360
    assert len(scans) == 1797
    original = np.round(load_digits().images * (255 / 16)).astype(np.uint8)
    assert sorted(s.tobytes() for s in scans) == sorted(s.tobytes() for s in original)


def test_the_split_is_the_same_every_time_and_another_with_another_seed():
    first, again, other = split_digits(0), split_digits(0), split_digits(1)
    assert np.array_equal(first['val'][0], again['val'][0])
    assert not np.array_equal(first['val'][0], other['val'][0])


def test_every_class_keeps_its_share():
    for _, labels in split_digits().values():
        counts = np.bincount(labels)
        assert counts.max() / counts.min() < 1.08


def test_the_folder_tree_is_that_of_imagenet_and_its_images_are_the_scans(tmp_path):
    counts = write_digits(tmp_path)
    assert counts == {'train': 1437, 'val': 360}
    for split, (scans, labels) in split_digits().items():
        files = list((tmp_path / split).glob('*/*.png'))
        assert len(files) == counts[split]
        image = cv2.imread(
            str(tmp_path / split / str(labels[7]) / '0007.png'), cv2.IMREAD_UNCHANGED
        )
        assert image.shape == (32, 32)
        small = cv2.resize(image, (8, 8), interpolation=cv2.INTER_AREA)
        assert np.corrcoef(small.ravel(), scans[7].ravel())[0, 1] > 0.95
