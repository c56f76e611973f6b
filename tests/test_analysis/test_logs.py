"""Reading of logs, those of resumed runs included."""

import pytest
from helpers import train_record as train
from helpers import write_log, write_resumed_log

from mmwf.analysis.logs import read_scalars
from mmwf.errors import UserError


@pytest.fixture
def resumed(tmp_path):
    return write_resumed_log(tmp_path)


def test_a_resumed_run_replaces_what_was_logged_after_its_checkpoint(resumed):
    curves, metrics = read_scalars(resumed)
    assert curves['loss'] == {10: 4.0, 20: 3.0, 30: 2.0}
    assert curves['accuracy/top1'] == {20: 50.0}
    assert metrics == ['accuracy/top1']


def test_validation_is_at_its_iteration_and_without_its_time(resumed):
    curves, _ = read_scalars(resumed)
    assert curves['accuracy/top1'] == {20: 50.0}
    assert curves['time'] == {10: 1.0, 20: 1.0, 30: 1.0}


def test_cocos_minus_one_is_dropped(tmp_path):
    bbox = {'coco/bbox_mAP': 0.2, 'coco/bbox_mAP_s': -1.0, 'step': 20}
    later = {'coco/bbox_mAP': 0.3, 'coco/bbox_mAP_s': 0.1, 'step': 40}
    logged = [train(20, -1), bbox, train(40, 3.0), later]
    write_log(tmp_path, '20260102_000000', logged)
    curves, _ = read_scalars(tmp_path)
    assert curves['coco/bbox_mAP_s'] == {40: 0.1}
    assert curves['coco/bbox_mAP'] == {20: 0.2, 40: 0.3}
    assert curves['loss'] == {20: -1, 40: 3.0}  # for other keys, -1 is a value


def test_without_logs_the_error_names_the_expected_file(tmp_path):
    with pytest.raises(UserError, match=r'There are no logs .*vis_data/scalars\.json'):
        read_scalars(tmp_path)
