"""Test-time augmentation for instance segmentation."""

import torch
from mmengine.model import BaseTTAModel
from mmengine.structures import InstanceData
from torch import Tensor

from mmwf.registry import MODELS

#: Dimensions of masks (n, height, width) to flip for each direction.
FLIPPED_DIMS = {'horizontal': [2], 'vertical': [1], 'diagonal': [1, 2]}


def _flip_boxes(boxes: Tensor, shape: tuple[int, int], direction: str) -> Tensor:
    """Flips boxes (n, 4) as (x1, y1, x2, y2) in an image of ``shape`` (height, width)."""
    x1, y1, x2, y2 = boxes.unbind(1)
    height, width = shape
    if direction != 'vertical':
        x1, x2 = width - x2, width - x1
    if direction != 'horizontal':
        y1, y2 = height - y2, height - y1
    return torch.stack([x1, y1, x2, y2], dim=1)


@MODELS.register_module()
class InstanceTTAModel(BaseTTAModel):
    """Merges the detections of flipped and resized views of an image.

    Class-wise non-maximum suppression runs on the boxes of all views together, and each remaining
    box keeps the mask of its view. (mmdet's DetTTAModel does not support masks.)

    Args:
        module: The detector; its predictions are in coordinates of the original image.
        iou_threshold: IoU threshold of the non-maximum suppression.
        max_per_img: Maximum number of detections per image.
        data_preprocessor: As in MMEngine.
    """

    def __init__(
        self,
        module,
        iou_threshold: float = 0.5,
        max_per_img: int = 100,
        data_preprocessor: dict | None = None,
    ):
        super().__init__(module, data_preprocessor)
        self.iou_threshold = iou_threshold
        self.max_per_img = max_per_img

    def test_step(self, data: dict) -> list:
        """Predicts one merged sample per image.

        Args:
            data: ``inputs`` and ``data_samples``, each a list over views of lists over images.

        Returns:
            A data sample for each image.
        """
        for samples in data['data_samples']:
            for sample in samples:
                direction = sample.flip_direction if sample.flip else None
                # Hide the flip from the detector: mmdet's cascade would flip the masks back but not
                # the boxes into which it then pastes them.
                sample.set_metainfo(dict(flip=False, flip_back=direction))
        return super().test_step(data)

    def merge_preds(self, data_samples_list: list[list]) -> list:
        """Merges the samples of each image's views into one sample."""
        return [self._merge_views(views) for views in data_samples_list]

    def _merge_views(self, views: list):
        from torchvision.ops import batched_nms

        merged = InstanceData.cat([self._unflip(view) for view in views])
        keep = batched_nms(merged.bboxes, merged.scores, merged.labels, self.iou_threshold)
        sample = views[0]
        sample.pred_instances = merged[keep[: self.max_per_img]]
        return sample

    def _unflip(self, view) -> InstanceData:
        """Returns the predictions of a view in coordinates of the unflipped image."""
        instances = view.pred_instances
        direction = view.flip_back
        if direction:
            instances.bboxes = _flip_boxes(instances.bboxes, view.ori_shape[:2], direction)
            if 'masks' in instances:
                instances.masks = instances.masks.flip(FLIPPED_DIMS[direction])
        return instances
