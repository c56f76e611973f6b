"""Pictures with what a model says about them."""

import numpy as np
import pytest
from PIL import Image

from mmwf.evaluation.predictions import Classes, Prediction, encode_masks
from mmwf.visualization.labelled import (
    MIN_SIDE,
    class_color,
    draw_comparison,
    draw_depth,
    draw_prediction,
    enlarge,
    titled,
)
from mmwf.visualization.saving import picture_name, save_picture

CLASSES = Classes(('sky', 'a class with a name that is much too long for the picture ' * 3))
RED = (200, 30, 20)


def plain(height, width, color=RED):
    return np.full((height, width, 3), color, np.uint8)


def scores(*values):
    return Prediction(np.arange(len(values)), np.array(values))


def masks(*boxes, size=(30, 40)):
    found = np.zeros((len(boxes), *size), np.uint8)
    for mask, (x1, y1, x2, y2) in zip(found, boxes, strict=True):
        mask[y1:y2, x1:x2] = 1
    return encode_masks(found)


@pytest.mark.parametrize('shape', [(1, 1), (8, 8), (7, 31), (33, 479), (480, 12), (600, 900)])
def test_small_pictures_are_enlarged_by_a_whole_number_and_large_ones_kept(shape):
    drawn = enlarge(plain(*shape))
    factor = drawn.shape[0] // shape[0]
    assert drawn.shape == (shape[0] * factor, shape[1] * factor, 3)
    assert max(drawn.shape) >= MIN_SIDE and (factor == 1 or max(shape) < MIN_SIDE)
    assert (drawn == RED).all()


@pytest.mark.parametrize('shape', [(8, 8), (30, 400), (500, 20), (700, 500)])
def test_the_classes_are_below_the_picture_whose_colours_stay(shape):
    drawn = draw_prediction(plain(*shape), scores(0.75, 0.25), CLASSES)
    picture = enlarge(plain(*shape))
    height, width = picture.shape[:2]
    assert np.array_equal(drawn[:height, :width], picture)
    text = drawn[height:]
    assert len(text) >= 2 * 15 and (text == 0).all(axis=-1).any()  # lines with black letters


def test_the_bars_of_the_classes_are_as_long_as_their_scores():
    drawn = draw_prediction(plain(600, 600), scores(0.75, 0.25), Classes())
    rows = drawn[600:]
    lengths = [(row[2] != 255).any(axis=-1).sum() / 600 for row in np.split(rows, 2)]
    assert lengths == pytest.approx([0.75, 0.25], abs=0.01)


@pytest.mark.parametrize(('truth', 'green'), [(0, True), (1, False)])
def test_the_ground_truth_is_green_if_it_was_predicted_and_else_red(truth, green):
    drawn = draw_comparison(
        plain(30, 30), Prediction(np.array([truth])), scores(0.8, 0.2), Classes(), 0.3
    )
    last = drawn[-15:].reshape(-1, 3).astype(int)
    excess = last[:, 1] - last[:, 0]  # of green over red
    assert (excess.max() > 60 and excess.min() > -10) == green
    assert (excess.min() < -60 and excess.max() < 10) != green


def test_masks_and_boxes_are_drawn_where_they_are():
    objects = Prediction(
        np.array([0]), np.array([0.9]), np.array([[10.0, 12, 20, 24]]), masks((10, 12, 20, 24))
    )
    factor = MIN_SIDE // 40
    drawn = draw_prediction(plain(30, 40), objects, CLASSES)
    color = np.array(class_color(0, CLASSES))
    middle = drawn[18 * factor, 15 * factor]
    assert np.abs(middle - (color + RED) / 2).max() <= 1
    assert np.array_equal(drawn[24 * factor, 15 * factor], color)  # the lower side of the box
    assert np.array_equal(drawn[28 * factor, 30 * factor], RED)


@pytest.mark.parametrize('box', [(0, 0, 40, 30), (-5, -5, 3, 3), (39, 29, 45, 35), (5, 5, 5, 5)])
def test_captions_stay_in_the_picture(box):
    objects = Prediction(np.array([1]), np.array([0.5]), np.array([box], dtype=float))
    drawn = draw_prediction(plain(30, 40), objects, Classes(('', 'dog')))
    background = np.array(class_color(1, Classes()))
    caption = (drawn == background).all(axis=-1)
    assert caption.sum() > 15 * 15 and drawn.shape == enlarge(plain(30, 40)).shape


def test_a_class_map_has_a_legend_and_ignored_pixels_keep_their_colour():
    class_map = np.zeros((24, 24), int)
    class_map[:6], class_map[20:] = 1, 255
    classes = Classes(('sky', 'sea'), [(0, 0, 255), (0, 255, 0)])
    drawn = draw_prediction(plain(24, 24), Prediction(class_map=class_map), classes)
    height = 24 * (MIN_SIDE // 24)
    assert np.array_equal(drawn[height - 1, 5], RED)
    assert np.abs(drawn[5, 5] - np.array([80, 165, 8])).max() <= 1  # 0.6 green, 0.4 picture
    legend = drawn[height:].reshape(-1, 3)
    shares = [(legend == color).all(axis=-1).sum() for color in classes.palette]
    assert min(shares) > 100


def test_segments_have_white_borders_and_void_is_not_coloured():
    ids = np.zeros((20, 20), np.int32)
    ids[:, :10] = 1
    segments = [dict(id=1, label=0, is_thing=True, area=200)]
    drawn = draw_prediction(
        plain(20, 20), Prediction(segment_map=ids, segments=segments), Classes(('dog',))
    )
    factor = drawn.shape[0] // 20
    assert (drawn[5, 10 * factor] == 255).all() and np.array_equal(drawn[5, -5], RED)
    assert (drawn == 0).all(axis=-1).any()  # behind the name


def test_depth_goes_from_yellow_to_dark_and_unknown_depth_is_grey():
    depth = np.linspace(1, 5, 24 * 24).reshape(24, 24)
    depth[0, 0] = 0
    drawn = draw_depth(depth, 1, 5).astype(int)
    height = 24 * (MIN_SIDE // 24)
    assert len(set(drawn[5, 5])) == 1  # grey
    near, far = drawn[30, 400], drawn[height - 5, height - 5]
    assert near[0] > 230 and near[1] > 200 and far.sum() < 60


@pytest.mark.parametrize(
    'prediction',
    [
        Prediction(np.array([0]), np.array([0.9]), np.array([[1.0, 2, 8, 9]])),
        Prediction(np.zeros(0, int), np.zeros(0), np.zeros((0, 4)), [], best_score=0.12),
        Prediction(class_map=np.zeros((30, 40), int)),
        Prediction(depth=np.ones((30, 40))),
    ],
)
def test_prediction_and_ground_truth_are_beside_each_other_with_titles(prediction):
    alone = draw_comparison(plain(30, 40), None, prediction, CLASSES, 0.3)
    both = draw_comparison(plain(30, 40), prediction, prediction, CLASSES, 0.3)
    assert both.shape[1] >= alone.shape[1] + MIN_SIDE
    for drawn in (alone, both):
        title = drawn[:20]
        assert (title.min(axis=-1) < 100).any() and (title == 255).mean() > 0.5


def test_titles_differ():
    first, second = titled('ground truth', plain(30, 200)), titled('prediction', plain(30, 200))
    assert first.shape == second.shape and not np.array_equal(first, second)


def test_colours_of_classes_are_distinct_and_those_of_the_palette():
    assert len({class_color(i, Classes()) for i in range(150)}) == 150
    assert class_color(1, Classes((), [(1, 2, 3), (4, 5, 6)])) == (4, 5, 6)


@pytest.mark.parametrize('name', ['a.png', 'a.JPG', 'a.bmp', 'a.webp', 'a.tif', 'a.ppm', 'a.heic'])
def test_pictures_are_written_in_the_format_of_their_name(tmp_path, name):
    path = tmp_path / picture_name(name)
    save_picture(path, plain(30, 40))
    with Image.open(path) as file:
        assert file.size == (40, 30)
        assert np.abs(np.asarray(file.convert('RGB')).astype(int) - RED).max() < 5
    assert path.name == (name if name != 'a.heic' else 'a.heic.png')
