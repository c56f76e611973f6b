"""Data transforms."""

import cv2
from mmcv.transforms import LoadImageFromFile as MMCVLoadImageFromFile

from mmwf.errors import UserError
from mmwf.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadImageFromFile(MMCVLoadImageFromFile):
    """mmcv's LoadImageFromFile with an error that names the file.

    Takes the arguments of mmcv's.
    """

    def transform(self, results: dict) -> dict | None:
        """Reads ``results['img_path']`` into ``results['img']``, (height, width, 3), uint8, BGR.

        Raises:
            UserError: If the file is missing, empty, damaged or not an image.
        """
        try:
            return super().transform(results)
        except (OSError, AssertionError, AttributeError, cv2.error) as error:
            reason = ' '.join(str(error).split())  # OpenCV's messages have line breaks
            raise UserError(
                f'Cannot read the image {results["img_path"]}: {reason}. Repair or remove the file.'
            ) from error
