"""Test-time augmentation of instance segmentation."""

import torch
from mmengine.model import BaseTTAModel
from mmengine.structures import InstanceData
from torch import Tensor
from torchvision.ops import batched_nms

from mmwf.registry import MODELS

#: Dimensions of a (n, height, width) mask that a flip reverses.
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
    """Joins the detections of flipped and resized views of an image.

    All boxes of all views go through one non-maximum suppression for each class, and each box that
    is left keeps the mask of its own view. (mmdet's DetTTAModel refuses models with masks.)

    Args:
        module: The detector; its predictions are in coordinates of the original image.
        iou_threshold: Of two boxes of a class that overlap by more than this, the better one stays.
        max_per_img: The most detections to keep.
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
        """Maps the views of a batch of images to one sample for each image.

        Args:
            data: ``inputs`` and ``data_samples``, each a list over views of lists over images.
        """
        for samples in data['data_samples']:
            for sample in samples:
                direction = sample.flip_direction if sample.flip else None
                # The detector must not know: mmdet's cascade would flip masks that it has yet to
                # paste to boxes which it does not flip.
                sample.set_metainfo(dict(flip=False, flip_back=direction))
        return super().test_step(data)

    def merge_preds(self, data_samples_list: list[list]) -> list:
        """Maps, for each image, the samples of its views to one sample."""
        return [self._merge_views(views) for views in data_samples_list]

    def _merge_views(self, views: list):
        merged = InstanceData.cat([self._unflip(view) for view in views])
        keep = batched_nms(merged.bboxes, merged.scores, merged.labels, self.iou_threshold)
        sample = views[0]
        sample.pred_instances = merged[keep[: self.max_per_img]]
        return sample

    def _unflip(self, view) -> InstanceData:
        """Returns the predictions of one view, flipped back."""
        instances = view.pred_instances
        direction = view.flip_back
        if direction:
            instances.bboxes = _flip_boxes(instances.bboxes, view.ori_shape[:2], direction)
            if 'masks' in instances:
                instances.masks = instances.masks.flip(FLIPPED_DIMS[direction])
        return instances
