"""The stand-in for panopticapi: colours, panoptic quality, and the precedence of the package."""

import pickle

import cv2
import numpy as np
import pytest

from mmwf.panopticapi import OFFSET, PQStat, id2rgb, rgb2id

#: Things, stuff, and stuff that does not occur.
CATEGORIES = {1: dict(isthing=1), 2: dict(isthing=0), 3: dict(isthing=0)}


def test_colours_and_ids_are_inverse_to_each_other():
    colors = np.array([[[1, 2, 3], [255, 255, 255]]], np.uint8)
    assert rgb2id(colors).tolist() == [[1 + 2 * 256 + 3 * 256**2, OFFSET - 1]]
    ids = np.random.default_rng(0).integers(0, OFFSET, (5, 7)).astype(np.int32)
    assert id2rgb(ids).dtype == np.uint8
    assert np.array_equal(rgb2id(id2rgb(ids)), ids)


@pytest.fixture
def match(tmp_path):
    """Matches the rows of two maps with mmdet; each has (id, category, number of rows)."""
    from mmdet.evaluation.functional import pq_compute_single_core

    def write(name, segments):
        ids = np.repeat([i for i, _, rows in segments for _ in range(rows)], 10).reshape(-1, 10)
        (tmp_path / name).mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / name / 'map.png'), id2rgb(ids)[..., ::-1])
        infos = [
            dict(id=i, category_id=category, iscrowd=0, area=rows * 10)
            for i, category, rows in segments
            if i
        ]
        return dict(image_id=1, file_name='map.png', segments_info=infos)

    def match(true, predicted):
        pair = (write('true', true), write('predicted', predicted))
        folders = (str(tmp_path / 'true'), str(tmp_path / 'predicted'))
        return pq_compute_single_core(0, [pair], *folders, CATEGORIES)

    return match


def test_panoptic_quality_is_that_of_its_definition(match):
    # IoUs of 0.8 and 0.75, and a prediction on void pixels, which does not count.
    stat = match([(1000, 1, 5), (7, 2, 3), (0, 0, 2)], [(5, 1, 4), (70000, 2, 4), (6, 1, 2)])
    # A false positive of class 1 and a false negative of class 2.
    stat += pickle.loads(pickle.dumps(match([(9, 2, 10)], [(11, 1, 10)])))
    mean, per_class = stat.pq_average(CATEGORIES, isthing=None)
    rq = 1 / (1 + 1 / 2)
    assert per_class[1] == pytest.approx(dict(pq=0.8 * rq, sq=0.8, rq=rq))
    assert per_class[2] == pytest.approx(dict(pq=0.75 * rq, sq=0.75, rq=rq))
    assert per_class[3] == dict(pq=0, sq=0, rq=0)
    assert mean == pytest.approx(dict(pq=0.775 * rq, sq=0.775, rq=rq, n=2))
    things, _ = stat.pq_average(CATEGORIES, isthing=True)
    stuff, of_stuff = stat.pq_average(CATEGORIES, isthing=False)
    assert things == pytest.approx(dict(per_class[1], n=1))
    assert stuff == pytest.approx(dict(per_class[2], n=1)) and set(of_stuff) == {2, 3}


def test_without_any_segment_the_quality_is_zero():
    mean, per_class = PQStat().pq_average(CATEGORIES, isthing=None)
    assert mean == dict(pq=0, sq=0, rq=0, n=0) and len(per_class) == 3


def test_mmdet_imports_the_stand_in_unless_the_package_is_there(tmp_path, run_python):
    code = (
        'import mmwf\n'
        'from panopticapi import utils\n'
        'from panopticapi.evaluation import OFFSET, VOID, PQStat\n'
        'print(PQStat.__module__, utils.rgb2id.__module__)'
    )
    assert run_python(code).stdout.split() == ['mmwf.panopticapi'] * 2
    (tmp_path / 'panopticapi').mkdir()
    (tmp_path / 'panopticapi/__init__.py').touch()
    (tmp_path / 'panopticapi/utils.py').write_text('def rgb2id(): pass')
    (tmp_path / 'panopticapi/evaluation.py').write_text('OFFSET = VOID = 0\nclass PQStat: pass')
    result = run_python(f'import sys\nsys.path.insert(0, {str(tmp_path)!r})\n{code}')
    assert result.stdout.split() == ['panopticapi.evaluation', 'panopticapi.utils'], result.stderr
