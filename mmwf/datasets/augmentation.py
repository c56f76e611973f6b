"""Transforms that compute what mmpretrain's compute, in less time.

They draw the same random numbers, and their images are equal, pixel by pixel; only the noise of
RandomErasing comes from another generator. mmpretrain is imported when a transform is built.
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


def auto_contrast_table(policy: BaseTransform, image: np.ndarray) -> np.ndarray:
    """Returns the table (256, 1, 3) that stretches each channel to values from 0 to 255."""
    table = RAMP.copy()
    for channel, histogram in enumerate(histograms(image)):
        low, high = np.flatnonzero(histogram)[[0, -1]]
        if low < high:
            scale = 255.0 / (high - low)
            table[:, 0, channel] = np.clip(np.arange(256) * scale - low * scale, 0, 255)
    return table


def equalize_table(policy: BaseTransform, image: np.ndarray) -> np.ndarray:
    """Returns the table (256, 1, 3) that equalises each channel's histogram, as Pillow does."""
    table = RAMP.copy()
    for channel, histogram in enumerate(histograms(image)):
        step = (histogram.sum() - histogram[np.flatnonzero(histogram)[-1]]) // 255
        if step:
            below = np.cumsum(histogram) - histogram  # pixels with lower values
            equalized = (below + step // 2) // step
            equalized[0] = 0
            table[:, 0, channel] = np.minimum(equalized, 255)
    return table


def contrast_table(policy: BaseTransform, image: np.ndarray) -> np.ndarray:
    """Returns the table (256, 1, 3) that scales the distance from the mean grey level."""
    magnitude = policy.magnitude
    factor = 1 + policy.random_negative(
        policy.random_magnitude() if magnitude is None else magnitude
    )
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    mean = np.full(RAMP.shape, round(cv2.sumElems(grey)[0] / grey.size), np.float32)
    table = cv2.addWeighted(RAMP.astype(np.float32), factor, mean, 1 - factor, 0)
    return np.clip(table, 0, 255).astype(np.uint8)


def histograms(image: np.ndarray) -> list[np.ndarray]:
    """Counts the values of each channel of an image, (256,), int64."""
    return [
        cv2.calcHist([image], [channel], None, [256], [0, 256]).ravel().astype(np.int64)
        for channel in range(image.shape[2])
    ]


#: Policies of RandAugment that map each value of a channel to another one, depending on the image.
BY_IMAGE = {
    'AutoContrast': auto_contrast_table,
    'Contrast': contrast_table,
    'Equalize': equalize_table,
}


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
            elif name in BY_IMAGE:
                if not policy.random_disable():
                    image = np.ascontiguousarray(results['img'])
                    results['img'] = cv2.LUT(image, BY_IMAGE[name](policy, image))
            else:
                results = policy.transform(results)
        return results

    def __repr__(self) -> str:
        return repr(self.rand_augment)


@TRANSFORMS.register_module()
class RandomErasing(BaseTransform):
    """mmpretrain's RandomErasing, with normally distributed pixels from OpenCV.

    The distribution is the same: mmpretrain rounds them down and OpenCV rounds to the nearest
    value, hence the 0.5. NumPy's random state seeds OpenCV's generator.

    Args:
        **kwargs: As for mmpretrain's RandomErasing.
    """

    def __init__(self, **kwargs):
        from mmpretrain.datasets.transforms import RandomErasing as MMPretrains

        self.erasing = MMPretrains(**kwargs)

    def transform(self, results: dict) -> dict:
        """Fills a random rectangle of ``results['img']``, (height, width, 3), uint8."""
        erasing, image = self.erasing, results['img']
        if erasing.mode != 'rand' or erasing.fill_std is None:
            return erasing.transform(results)
        if not erasing.random_disable():
            top, left, height, width = erasing.random_patch(*image.shape[:2])
            patch = np.empty((height, width, 3), np.uint8)
            cv2.setRNGSeed(np.random.randint(2**31))
            cv2.randn(patch, np.subtract(erasing.fill_color, 0.5), np.array(erasing.fill_std))
            image[top : top + height, left : left + width] = patch
        return results

    def __repr__(self) -> str:
        return repr(self.erasing)
