"""Tokens as colours."""

import numpy as np

from mmwf.visualization.tokens import NUM_PICTURES, TokenPictures

RNG = np.random.default_rng(0)


def tokens(scale=(9.0, 3.0, 1.0, 0.1)):
    return RNG.normal(size=(4, 6, 4)) * scale


def image():
    return np.zeros((480, 720, 3), np.uint8)


def colors(drawn):
    return drawn[60::120, -720 + 60 :: 120].astype(float)


def test_red_is_the_direction_of_the_largest_variance_and_blue_the_third():
    painter, maps = TokenPictures(), [tokens() for _ in range(20)]
    for i, tokens_ in enumerate(maps):
        assert painter.add(f'{i}.png', image(), tokens_) == []
    drawn = painter.flush()
    assert [name for name, _ in drawn] == [f'{i}.png' for i in range(20)]
    found = np.stack([colors(picture) for _, picture in drawn]).reshape(-1, 3)
    values = np.stack(maps).reshape(-1, 4)
    for channel in range(3):
        assert np.corrcoef(found[:, channel], values[:, channel])[0, 1] > 0.95
    assert painter.flush() == []


def test_a_token_has_the_same_colour_in_all_pictures_also_in_later_ones():
    painter, drawn, token = TokenPictures(), [], np.array([5.0, -2.0, 1.0, 0.0])
    for i in range(NUM_PICTURES + 3):
        values = tokens()
        values[1, 2] = token
        drawn += painter.add(str(i), image(), values)
        assert len(drawn) == (0 if i < NUM_PICTURES - 1 else i + 1)
    assert len({tuple(colors(picture)[1, 2]) for _, picture in drawn}) == 1


def test_tokens_without_variance_are_drawn():
    painter = TokenPictures()
    painter.add('a.png', image(), np.ones((4, 6, 2)))
    ((_, drawn),) = painter.flush()
    assert drawn.shape == (480, 2 * 720 + 8, 3)
