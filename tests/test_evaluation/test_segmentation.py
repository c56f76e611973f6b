"""IoUMetric, against numbers by hand."""

import pytest
import torch
from mmengine.registry import METRICS


@pytest.mark.parametrize('per_class', [True, False])
def test_the_iou_of_each_class_that_occurs_is_returned(per_class):
    metric = METRICS.build(dict(type='mmwf.IoUMetric', per_class=per_class))
    metric.dataset_meta = dict(classes=('road', 'sky', 'never'))
    # Two images: pixels in the intersection, the union, the prediction and the ground truth.
    images = [[(1, 0, 0), (4, 2, 0), (2, 0, 0), (3, 2, 0)]]
    images += [[(2, 1, 0), (2, 3, 0), (2, 2, 0), (2, 2, 0)]]
    metrics = metric.compute_metrics(
        [tuple(torch.tensor(areas, dtype=torch.float) for areas in image) for image in images]
    )
    assert metrics['aAcc'] == pytest.approx(100 * 4 / 9, abs=0.01)
    assert metrics['mIoU'] == pytest.approx((50 + 20) / 2)
    of_classes = {key: value for key, value in metrics.items() if key.startswith('IoU.')}
    assert of_classes == ({'IoU.road': 50.0, 'IoU.sky': 20.0} if per_class else {})
