"""Predictions and ground truths of all libraries in one form."""

import numpy as np
import pytest
import torch
from mmengine.structures import BaseDataElement, InstanceData, PixelData
from pycocotools import mask as rle

from mmwf.evaluation.predictions import Classes, read_ground_truth, read_prediction


def sample(**fields):
    element = BaseDataElement()
    element.set_data(fields)
    return element


def test_the_classes_of_a_picture_are_sorted_by_score():
    scores = torch.tensor([0.1, 0.5, 0.05, 0.35])
    prediction = read_prediction(sample(pred_score=scores), top=3)
    assert prediction.labels.tolist() == [1, 3, 0]
    assert prediction.scores == pytest.approx([0.5, 0.35, 0.1])


def test_objects_below_the_threshold_are_dropped_and_the_best_score_is_kept():
    masks = torch.zeros(3, 4, 6, dtype=torch.bool)
    masks[1, 1:3, 2:5] = True
    instances = InstanceData(
        labels=torch.tensor([0, 1, 2]),
        scores=torch.tensor([0.2, 0.5, 0.9]),
        bboxes=torch.arange(12.0).reshape(3, 4),
        masks=masks,
    )
    prediction = read_prediction(sample(pred_instances=instances), score_thr=0.5)
    assert prediction.labels.tolist() == [2, 1]
    assert prediction.boxes.tolist() == [[8, 9, 10, 11], [4, 5, 6, 7]]
    assert np.array_equal(rle.decode(prediction.masks[1]), masks[1])
    none = read_prediction(sample(pred_instances=instances), score_thr=0.95)
    assert len(none.boxes) == 0 and none.masks == [] and none.best_score == pytest.approx(0.9)


def test_segmentation_keeps_its_logits_only_if_asked():
    element = sample(
        pred_sem_seg=PixelData(data=torch.tensor([[[0, 2], [1, 1]]])),
        seg_logits=PixelData(data=torch.randn(3, 2, 2)),
    )
    assert read_prediction(element).class_map.tolist() == [[0, 2], [1, 1]]
    assert read_prediction(element).logits is None
    assert read_prediction(element, with_logits=True).logits.shape == (3, 2, 2)


@pytest.mark.parametrize('void', [3, 0])  # of three classes; after mmdet's metric
def test_segments_are_numbered_from_the_largest_and_void_has_none(void):
    ids = torch.tensor([[[1, 1, 1, 1001], [2000, 1, 1001, void]]])
    prediction = read_prediction(sample(pred_panoptic_seg=PixelData(sem_seg=ids)), num_classes=3)
    assert prediction.segments == [
        dict(id=1, label=1, is_thing=False, area=4),
        dict(id=2, label=1, is_thing=True, area=2),
        dict(id=3, label=0, is_thing=True, area=1),
    ]
    assert prediction.segment_map.tolist() == [[1, 1, 1, 2], [3, 1, 2, 0]]


def test_depth_is_a_map():
    depth = torch.rand(1, 2, 3)
    prediction = read_prediction(sample(pred_depth_map=PixelData(data=depth)))
    assert np.array_equal(prediction.depth, depth[0])


def test_a_sample_without_a_prediction_is_an_error():
    with pytest.raises(ValueError, match="with a prediction, got.*'gt_label'"):
        read_prediction(sample(gt_label=torch.tensor([1])))


def test_ground_truths_of_all_tasks_are_read():
    from mmdet.structures.bbox import HorizontalBoxes
    from mmdet.structures.mask import BitmapMasks

    assert read_ground_truth(sample(gt_label=torch.tensor([3]))).labels.tolist() == [3]
    seg = read_ground_truth(sample(gt_sem_seg=PixelData(data=torch.tensor([[[0, 255]]]))))
    assert seg.class_map.tolist() == [[0, 255]]
    depth = read_ground_truth(sample(gt_depth_map=PixelData(data=torch.ones(1, 2, 2))))
    assert depth.depth.shape == (2, 2)
    instances = InstanceData(
        labels=torch.tensor([4]),
        bboxes=HorizontalBoxes(torch.tensor([[0.0, 0, 2, 2]])),
        masks=BitmapMasks(np.ones((1, 3, 3), np.uint8), 3, 3),
    )
    objects = read_ground_truth(sample(gt_instances=instances))
    assert objects.boxes.tolist() == [[0, 0, 2, 2]] and objects.scores is None
    assert rle.area(objects.masks).tolist() == [9]
    assert read_ground_truth(sample(pred_score=torch.ones(2))) is None


@pytest.mark.parametrize('palette', [None, 'coco', [[1, 2, 3]] * 80])
def test_a_palette_of_other_classes_is_not_used(palette):
    assert Classes.from_meta(dict(classes=('a', 'b'), palette=palette)).palette == ()


def test_the_name_of_a_palette_is_no_palette():
    assert Classes.from_meta(dict(classes=tuple('abcd'), palette='coco')).palette == ()


def test_a_class_without_a_name_is_a_number():
    classes = Classes.from_meta(dict(classes=('a', 'b'), palette=[[1, 2, 3]] * 2))
    assert [classes.name(1), classes.name(2)] == ['b', 'class 2'] and len(classes.palette) == 2
