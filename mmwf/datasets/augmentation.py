"""Transforms that compute what mmpretrain's compute, in less time.

They draw the same random numbers, and their images are equal, pixel by pixel. mmpretrain is
imported when a transform is built.
"""

import cv2
import mmcv
import numpy as np
from mmcv.transforms import BaseTransform

from mmwf.registry import TRANSFORMS

#: All values of a pixel, as an image.
RAMP = np.tile(np.arange(256, dtype=np.uint8)[:, None, None], (1, 1, 3))
RAMP.setflags(write=False)
#: Policies of RandAugment that map each value to another one, whatever the image is.
POINTWISE = ('Brightness', 'Invert', 'Posterize', 'Solarize', 'SolarizeAdd')


@TRANSFORMS.register_module()
class RandomResizedCrop(BaseTransform):
    """mmpretrain's RandomResizedCrop for resizing with Pillow.

    Pillow reads a contiguous image about twenty times as fast as a part of a larger one.

    Args:
        **kwargs: As for mmpretrain's RandomResizedCrop.
    """

    def __init__(self, **kwargs):
        from mmpretrain.datasets.transforms import RandomResizedCrop as MMPretrains

        self.crop = MMPretrains(**kwargs)

    def transform(self, results: dict) -> dict:
        """Crops and resizes ``results['img']``, (height, width, 3), uint8."""
        image = results['img']
        top, left, height, width = self.crop.rand_crop_params(image)
        results['img'] = mmcv.imresize(
            np.ascontiguousarray(image[top : top + height, left : left + width]),
            tuple(self.crop.scale[::-1]),
            interpolation=self.crop.interpolation,
            backend=self.crop.backend,
        )
        results['img_shape'] = results['img'].shape
        return results

    def __repr__(self) -> str:
        return repr(self.crop)


def histograms(image: np.ndarray) -> list[np.ndarray]:
    """Counts the values of each channel of an image, (256,), int64."""
    return [
        cv2.calcHist([image], [channel], None, [256], [0, 256]).ravel().astype(np.int64)
        for channel in range(image.shape[2])
    ]


def auto_contrast_table(histogram: np.ndarray) -> np.ndarray:
    """Returns the table (256,) that stretches a channel to values from 0 to 255."""
    low, high = np.flatnonzero(histogram)[[0, -1]]
    if low == high:
        return RAMP[:, 0, 0]
    scale = 255.0 / (high - low)
    return np.clip(np.arange(256) * scale - low * scale, 0, 255).astype(np.uint8)


def equalize_table(histogram: np.ndarray) -> np.ndarray:
    """Returns the table (256,) that equalises the histogram of a channel, as Pillow does."""
    step = (histogram.sum() - histogram[np.flatnonzero(histogram)[-1]]) // 255
    if not step:
        return RAMP[:, 0, 0]
    below = np.cumsum(histogram) - histogram  # pixels with lower values
    table = (below + step // 2) // step
    table[0] = 0
    return np.minimum(table, 255).astype(np.uint8)


#: Policies of RandAugment that map each value of a channel to another one, by its histogram.
BY_HISTOGRAM = {'AutoContrast': auto_contrast_table, 'Equalize': equalize_table}


@TRANSFORMS.register_module()
class RandAugment(BaseTransform):
    """mmpretrain's RandAugment, with lookup tables.

    Most policies map each of the 256 values of a pixel to another one. These are computed once for
    each value, not for each pixel.

    Args:
        **kwargs: As for mmpretrain's RandAugment.
    """

    def __init__(self, **kwargs):
        from mmpretrain.datasets.transforms import RandAugment as MMPretrains

        self.rand_augment = MMPretrains(**kwargs)

    def transform(self, results: dict) -> dict:
        """Applies randomly chosen policies to ``results['img']``, (height, width, 3), uint8."""
        for index in self.rand_augment.random_policy_indices():
            policy = self.rand_augment.transforms[index]
            name = type(policy).__name__
            if name in POINTWISE:
                table = policy.transform(dict(img=RAMP))['img']
                if table is not RAMP:
                    results['img'] = cv2.LUT(results['img'], table)
            elif name in BY_HISTOGRAM:
                if not policy.random_disable():
                    image = np.ascontiguousarray(results['img'])
                    tables = [BY_HISTOGRAM[name](counts) for counts in histograms(image)]
                    results['img'] = cv2.LUT(image, np.stack(tables, axis=-1)[:, None])
            else:
                results = policy.transform(results)
        return results

    def __repr__(self) -> str:
        return repr(self.rand_augment)
