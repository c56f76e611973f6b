"""Grouping of pixels into texts, on images whose groups are known."""

import numpy as np
import pytest
import torch
from mmcv.ops import contour_expand, pixel_group
from torch.testing import assert_close


def image(*rows):
    return np.array([[int(c) for c in row] for row in rows])


def as_kind(arrays, kind):
    return [torch.from_numpy(x) for x in arrays] if kind == 'torch' else arrays


@pytest.mark.parametrize('kind', ['numpy', 'torch'])
def test_pixels_join_the_kernel_whose_embedding_is_near(kind):
    labels = image('00000000', '01100020', '00000000').astype(np.int32)
    mask = image('00000000', '11111111', '00010000').astype(bool)
    score = np.linspace(0.1, 0.9, 24, dtype=np.float32).reshape(3, 8)
    embedding = np.zeros((3, 8, 2), dtype=np.float32)
    embedding[:, 5:] = 3.0
    embedding[1, 0] = 0.9  # too far from zero: sqrt(2 * 0.81) > 1
    contour = (labels > 0).astype(np.uint8)
    arrays = as_kind([score, mask, embedding, labels, contour], kind)
    nothing, first, second = pixel_group(*arrays, 3, 1.0)
    assert nothing == [0, 0]
    assert first[1:] == [5, 1, 1, 2, 1, 3, 1, 4, 1, 3, 2]
    assert second[1:] == [3, 5, 1, 6, 1, 7, 1]
    assert_close(first[0], float(score[[1, 1, 1, 1, 2], [1, 2, 3, 4, 3]].mean()))
    assert_close(second[0], float(score[1, 5:].mean()))


def test_a_label_without_pixels_is_an_empty_group():
    zeros = np.zeros((2, 2), dtype=np.float32)
    label = zeros.astype(np.int32)
    arrays = zeros, zeros > 0, zeros[..., None], label, label.astype(np.uint8)
    assert pixel_group(*arrays, 2, 1.0) == [[0, 0], [0, 0]]


@pytest.mark.parametrize('kind', ['numpy', 'torch'])
def test_kernels_grow_over_the_larger_masks(kind):
    labels = image('0000000', '0100020', '0000000', '3000000').astype(np.int32)
    largest = image('1111000', '1111111', '0000000', '1000000')
    smallest = (labels > 0).astype(int)
    masks = np.stack([largest, smallest]).astype(np.uint8)
    out = contour_expand(*as_kind([masks, labels], kind), 1, 4)
    assert out == image('1111000', '1111222', '0000000', '3000000').tolist()


def test_kernels_grow_in_turn():
    labels = image('1000002').astype(np.int32)
    masks = np.stack([image('1111111'), image('1111001'), image('1000001')]).astype(np.uint8)
    assert contour_expand(masks, labels, 1, 3) == image('1111122').tolist()


def test_small_kernels_are_dropped():
    labels = image('1100200').astype(np.int32)
    masks = np.ones((2, 1, 7), dtype=np.uint8)
    assert contour_expand(masks, labels, 2, 3) == image('1111111').tolist()
