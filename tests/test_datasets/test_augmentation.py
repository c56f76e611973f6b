"""Augmentation that computes what mmpretrain's does, in less time."""

import cv2
import numpy as np
import pytest
from mmengine.registry import init_default_scope
from mmpretrain.registry import TRANSFORMS as MMPRETRAINS
from sklearn.datasets import load_sample_images

from mmwf.datasets import augmentation
from mmwf.registry import TRANSFORMS

PHOTOGRAPH = cv2.resize(load_sample_images().images[0], (70, 50))
IMAGES = {
    'photograph': PHOTOGRAPH,
    'flipped view': PHOTOGRAPH[:, ::-1],
    'one colour': np.full((5, 7, 3), (0, 90, 255), np.uint8),
    'one pixel': np.array([[[3, 0, 250]]], np.uint8),
    'two values': np.where(PHOTOGRAPH > 99, PHOTOGRAPH.max(), 40).astype(np.uint8),
    'dark': PHOTOGRAPH // 8,
}
RAND_AUGMENT = dict(
    num_policies=2,
    total_level=10,
    magnitude_level=9,
    magnitude_std=0.5,
    hparams=dict(pad_val=[104, 116, 124], interpolation='bicubic'),
)
#: The names of mmpretrain's policies, with their settings.
POLICIES = {
    'AutoContrast': {},
    'Contrast': dict(magnitude_range=(0, 0.9)),
    'Equalize': {},
    'Invert': {},
    'Posterize': dict(magnitude_range=(4, 0)),
    'Solarize': dict(magnitude_range=(256, 0)),
    'SolarizeAdd': dict(magnitude_range=(0, 110)),
    'Brightness': dict(magnitude_range=(0, 0.9)),
}


def assert_equal(settings, image, seed):
    """Compares image and random state after our transform and after mmpretrain's."""
    init_default_scope('mmpretrain')
    results, states = [], []
    for registry, scope in ((TRANSFORMS, 'mmwf.'), (MMPRETRAINS, '')):
        transform = registry.build(dict(settings, type=scope + settings['type']))
        np.random.seed(seed)
        results.append(transform(dict(img=image.copy() if image.flags.c_contiguous else image)))
        states.append(np.random.random())
    ours, theirs = results
    assert ours['img'].dtype == np.uint8
    np.testing.assert_array_equal(ours['img'], theirs['img'])
    assert ours.get('img_shape') == theirs.get('img_shape')
    assert states[0] == states[1]


@pytest.mark.parametrize('name', IMAGES)
@pytest.mark.parametrize('policy', POLICIES)
def test_each_table_makes_the_pixels_of_mmpretrains_policy(policy, name):
    policies = [dict(type=policy, prob=1.0, **POLICIES[policy])]
    settings = dict(RAND_AUGMENT, type='RandAugment', policies=policies)
    for seed in range(5):
        assert_equal(settings, IMAGES[name], seed)


@pytest.mark.parametrize('seed', range(60))
def test_rand_augment_makes_mmpretrains_images(seed):
    settings = dict(RAND_AUGMENT, type='RandAugment', policies='timm_increasing')
    assert_equal(settings, PHOTOGRAPH, seed)


@pytest.mark.parametrize('seed', range(10))
@pytest.mark.parametrize(
    'settings',
    [
        dict(scale=40, backend='pillow', interpolation='bicubic'),
        dict(scale=(30, 40), crop_ratio_range=(0.2, 0.5)),
    ],
)
def test_the_crop_is_mmpretrains(settings, seed):
    assert_equal(dict(settings, type='RandomResizedCrop'), PHOTOGRAPH, seed)


def erase(scope, seed, **settings):
    """Erases half of a grey image; returns the image."""
    init_default_scope('mmpretrain')
    settings = dict(erase_prob=1.0, min_area_ratio=0.5, max_area_ratio=0.5, **settings)
    registry = TRANSFORMS if scope else MMPRETRAINS
    transform = registry.build(dict(type=f'{scope}RandomErasing', mode='rand', **settings))
    np.random.seed(seed)
    return transform(dict(img=np.full((300, 300, 3), 7, np.uint8)))['img']


def test_erased_pixels_have_mmpretrains_distribution():
    settings = dict(fill_color=[104.0, 250.0, 30.0], fill_std=[57.4, 20.0, 10.0])
    ours, theirs = (erase(scope, 0, **settings) for scope in ('mmwf.', ''))
    # The same rectangle; pixels that happen to have the value of the image do not count.
    inside = np.zeros((300, 300), bool)
    rows, columns = np.nonzero((theirs != 7).all(axis=2))
    inside[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = True
    assert 0.49 < inside.mean() < 0.51
    assert (ours[~inside] == 7).all() and (theirs[~inside] == 7).all()
    for channel in range(3):
        counts = [np.bincount(x[inside][:, channel], minlength=256) for x in (ours, theirs)]
        shares = np.cumsum(counts, axis=1) / inside.sum()
        # Kolmogorov-Smirnov test at the level 1e-4.
        assert abs(shares[0] - shares[1]).max() < 2.2 * (2 / inside.sum()) ** 0.5
        means = [x[inside][:, channel].mean() for x in (ours, theirs)]
        deviation = theirs[inside][:, channel].std() * (2 / inside.sum()) ** 0.5
        assert abs(means[0] - means[1]) < 4 * deviation  # 0.27 in the last channel


def test_erasing_follows_numpys_seed():
    settings = dict(fill_color=[104.0, 116.0, 124.0], fill_std=[57.0, 57.0, 58.0])
    first, again, other = (erase('mmwf.', seed, **settings) for seed in (3, 3, 4))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_other_erasing_is_mmpretrains():
    assert np.array_equal(erase('mmwf.', 5), erase('', 5))  # uniform noise
    settings = dict(type='RandomErasing', erase_prob=0.5, mode='const')
    for seed in range(6):
        assert_equal(settings, PHOTOGRAPH, seed)


def test_the_table_of_all_values_stays_as_it_is():
    with pytest.raises(ValueError, match='read-only'):
        augmentation.RAMP[0] = 1
    assert augmentation.RAMP[:, 0].tolist() == [[i, i, i] for i in range(256)]


@pytest.mark.parametrize('name', ['RandAugment', 'RandomErasing', 'RandomResizedCrop'])
def test_its_description_is_mmpretrains(name):
    settings = {
        'RandAugment': dict(RAND_AUGMENT, policies='timm_increasing'),
        'RandomErasing': dict(erase_prob=0.25),
        'RandomResizedCrop': dict(scale=9),
    }[name]
    init_default_scope('mmpretrain')
    ours = TRANSFORMS.build(dict(type=f'mmwf.{name}', **settings))
    assert repr(ours) == repr(MMPRETRAINS.build(dict(type=name, **settings)))
