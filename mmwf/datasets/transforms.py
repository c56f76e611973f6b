"""Data transforms."""

import cv2
from mmcv.transforms import LoadImageFromFile as MMCVLoadImageFromFile
from mmengine.registry import TRANSFORMS as ROOT_TRANSFORMS

from mmwf.errors import UserError
from mmwf.registry import TRANSFORMS

from .images import MAX_PIXELS, check_pixels


@ROOT_TRANSFORMS.register_module(force=True)  # replaces mmcv's
@TRANSFORMS.register_module()
class LoadImageFromFile(MMCVLoadImageFromFile):
    """mmcv's LoadImageFromFile with an error that names the file, and a limit of its size.

    Configs name it without a scope: the libraries' inferencers look for that name, and replace it
    by their own loader, which uses this one. ``mmwf.LoadImageFromFile`` is the same.

    Args:
        max_pixels: Largest number of pixels of an image; None for any. Pillow, which reads the size
            before the image is decoded, itself sets a limit of 178,956,970.
        **kwargs: Arguments of mmcv's.
    """

    def __init__(self, *args, max_pixels: int | None = MAX_PIXELS, **kwargs):
        super().__init__(*args, **kwargs)
        self.max_pixels = max_pixels

    def transform(self, results: dict) -> dict | None:
        """Reads ``results['img_path']`` into ``results['img']``, (height, width, 3), uint8, BGR.

        Raises:
            UserError: If the file is missing, empty, damaged, not an image, or too large.
        """
        try:
            if self.max_pixels is not None and '://' not in results['img_path']:
                check_pixels(results['img_path'], self.max_pixels)
            return super().transform(results)
        except (OSError, AssertionError, AttributeError, cv2.error) as error:
            reason = ' '.join(str(error).split())  # OpenCV's messages have line breaks
            raise UserError(
                f'Cannot read the image {results["img_path"]}: {reason}. Repair or remove the file.'
            ) from error


def register_in_mmpretrain() -> None:
    """Replaces mmcv's class in the registry of mmpretrain, which has its own entry for it."""
    from mmpretrain.registry import TRANSFORMS as MMPRETRAIN_TRANSFORMS

    MMPRETRAIN_TRANSFORMS.register_module(module=LoadImageFromFile, force=True)
