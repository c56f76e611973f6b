"""What the figures of predictions show."""

import cv2
import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.colors import to_rgb
from matplotlib.image import imread
from pycocotools import mask as rle

from mmwf.datasets.toy.scenes import make_scenes, write_scenes
from mmwf.visualization.predictions import (
    CROWD_COLOR,
    draw_classification,
    draw_detection,
    draw_generation,
    draw_segmentation,
)

COLORS = colormaps['tab10'].colors
RNG = np.random.default_rng(0)


def titles(figure):
    return [ax.get_title() for ax in figure.axes]


def shown(ax):
    """The image on some axes."""
    (image,) = ax.get_images()
    return np.asarray(image.get_array())


@pytest.fixture
def png(tmp_path):
    """A path that must hold a PNG after the test."""
    path = tmp_path / 'figure.png'
    yield path
    assert path.read_bytes().startswith(b'\x89PNG')


@pytest.fixture
def digits(tmp_path):
    """Writes an image for each label and returns predictions, all correct."""

    def make(labels):
        samples = []
        for i, label in enumerate(labels):
            path = str(tmp_path / f'{i}.png')
            cv2.imwrite(path, np.full((8, 8), i, np.uint8))
            sample = dict(pred_label=np.array([label]), gt_label=np.array([label]))
            samples.append(dict(sample, img_path=path, pred_score=np.array([0.75, 0.25])))
        return samples

    return make


def test_classification_shows_the_errors_first_and_evenly_spaced_others(digits, png):
    predictions = digits([0, 0, 1, 1, 2, 2, 3, 3])
    predictions[5]['pred_label'][0] = 9
    figure = draw_classification(predictions, png, rows=2, columns=2)
    assert titles(figure) == [
        'read 9 (75%)\nis 2',
        *(f'read {label} (75%)\nis {label}' for label in (0, 1, 2)),
    ]
    assert [ax.title.get_color() for ax in figure.axes] == ['red', 'black', 'black', 'black']
    images = [imread(predictions[i]['img_path']) for i in (5, 0, 2, 4)]
    for ax, image in zip(figure.axes, images, strict=True):
        assert np.array_equal(shown(ax), image)
    assert figure.get_suptitle().startswith('8 test images, 1 misread')


def test_classification_counts_errors_that_are_not_shown(digits, png):
    predictions = digits([0, 1, 2])
    for sample in predictions:
        sample['pred_label'][0] = 9
    figure = draw_classification(predictions, png, rows=1, columns=2)
    assert titles(figure) == ['read 9 (75%)\nis 0', 'read 9 (75%)\nis 1']
    assert figure.get_suptitle().startswith('3 test images, 3 misread')


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    root = tmp_path_factory.mktemp('scenes')
    write_scenes(root, num_scenes={'val': 8})
    return root


def test_detection_shows_ground_truth_and_predictions(scenes, png):
    made = list(make_scenes('val', 8))[4:]  # with a crowd in the last one
    predictions = []
    for image_id, scene in enumerate(made, 5):
        mask = rle.encode(np.asfortranarray(scene.soft, np.uint8))
        instances = dict(
            bboxes=np.array([[2.0, 3, 20, 30], [0, 0, 9, 9]]),
            labels=np.array([4, 9]),
            scores=np.array([0.9, 0.2]),
            masks=[mask, mask],
        )
        path = str(scenes / f'coco/val/{image_id:06d}.jpg')
        predictions.append(dict(img_id=image_id, img_path=path, pred_instances=instances))
    ann_file = str(scenes / 'coco/annotations/instances_val.json')
    figure = draw_detection(predictions, png, ann_file=ann_file, rows=2, columns=2)
    assert titles(figure) == ['ground truth', 'predicted, score >= 0.5'] * 4
    assert any(instance.is_crowd for instance in made[-1].instances)
    for scene, sample, left, right in zip(
        made, predictions, figure.axes[::2], figure.axes[1::2], strict=True
    ):
        image = imread(sample['img_path']) / 255
        expected = image.copy()
        assert len(left.patches) == len(left.texts) == len(scene.instances)
        for instance, box, text in zip(scene.instances, left.patches, left.texts, strict=True):
            color = CROWD_COLOR if instance.is_crowd else COLORS[instance.digit]
            assert to_rgb(box.get_edgecolor()) == pytest.approx(color)
            assert text.get_text() == str(instance.digit) + ' crowd' * instance.is_crowd
            rows, columns = np.nonzero(instance.mask)
            assert box.get_xy() == (columns.min() - 0.5, rows.min() - 0.5)
            assert box.get_width() == np.ptp(columns) + 1 and box.get_height() == np.ptp(rows) + 1
            expected[instance.mask] = 0.35 * expected[instance.mask] + 0.65 * np.array(color)
        assert shown(left) == pytest.approx(expected, abs=1e-6)
        (box,), (text,) = right.patches, right.texts  # only the one with the high score
        assert (box.get_bbox().bounds, text.get_text()) == ((1.5, 2.5, 18, 27), '4 90%')
        image[scene.soft] = 0.35 * image[scene.soft] + 0.65 * np.array(COLORS[4])
        assert shown(right) == pytest.approx(image, abs=1e-6)


def test_segmentation_shows_classes_in_the_colors_of_the_legend(scenes, png):
    path = str(scenes / 'coco/val/000001.jpg')
    truth, predicted = np.full((1, 88, 88), 3), np.full((1, 88, 88), 10)
    truth[:, 44:] = 255
    truth[:, :9] = 0
    maps = dict(gt_sem_seg=dict(data=truth), pred_sem_seg=dict(data=predicted))
    classes = ('background', *'0123456789')
    figure = draw_segmentation([dict(img_path=path, **maps)], png, classes=classes, rows=1)
    assert titles(figure) == ['image', 'ground truth', 'prediction'] + [''] * 9
    image, left, right = figure.axes[:3]
    assert np.array_equal(shown(image), imread(path))
    (legend,) = figure.legends
    colors = {
        text.get_text(): patch.get_facecolor()[:3]
        for text, patch in zip(legend.get_texts(), legend.get_patches(), strict=True)
    }
    assert list(colors) == [*classes, 'ignored']
    assert colors['background'] == (0, 0, 0) and colors['ignored'] == (1, 1, 1)
    for rows, name in ((slice(9), 'background'), (slice(9, 44), '2'), (slice(44, 88), 'ignored')):
        assert (shown(left)[rows] == colors[name]).all()
    assert (shown(right) == colors['9']).all()
    assert figure.get_suptitle() == '1 of 1 test images'


def test_generation_shows_a_row_for_each_class(png):
    protocol = dict(sampler='ddim', num_steps=50, cfg_scale=1.5, seed=7)
    images = RNG.integers(0, 255, (5, 3, 64, 64), dtype=np.uint8)
    predictions = [
        dict(image=image, label=label, protocol=protocol)
        for image, label in zip(images, (7, 3, 7, 7, 3), strict=True)
    ]
    figure = draw_generation(predictions, png, columns=2)
    (ax,) = figure.axes
    assert ax.get_title() == 'DDIM, 50 steps, guidance 1.5, seed 7'
    assert [label.get_text() for label in ax.get_yticklabels()] == ['class 3', 'class 7']
    mosaic = shown(ax)
    assert mosaic.shape == (2 * 66, 2 * 66, 3)
    for (row, column), image in {(0, 0): 1, (0, 1): 4, (1, 0): 0, (1, 1): 2}.items():
        cell = mosaic[66 * row + 1 : 66 * row + 65, 66 * column + 1 : 66 * column + 65]
        assert np.array_equal(cell, images[image].transpose(1, 2, 0))


def test_tiny_generated_images_are_enlarged(png):
    protocol = dict(sampler='ddpm', num_steps=2, cfg_scale=1.0, seed=0)
    image = np.full((3, 8, 8), 200, np.uint8)
    figure = draw_generation([dict(image=image, label=0, protocol=protocol)], png, columns=1)
    mosaic = shown(figure.axes[0])
    assert mosaic.shape == (66, 66, 3) and (mosaic[1:-1, 1:-1] == 200).all()
