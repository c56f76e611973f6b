"""Data transforms."""

import cv2
from mmcv.transforms import LoadImageFromFile as MMCVLoadImageFromFile

from mmwf.errors import UserError
from mmwf.registry import TRANSFORMS

from .images import MAX_PIXELS, check_pixels


@TRANSFORMS.register_module()
class LoadImageFromFile(MMCVLoadImageFromFile):
    """mmcv's LoadImageFromFile with an error that names the file, and a limit of its size.

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
