"""Reading of logs, those of resumed runs included."""

import json

import pytest

from mmwf.analysis.logs import read_scalars
from mmwf.errors import UserError


def write_log(work_dir, timestamp, records):
    folder = work_dir / timestamp / 'vis_data'
    folder.mkdir(parents=True)
    lines = (json.dumps(record) for record in records)
    (folder / 'scalars.json').write_text('\n'.join(lines) + '\n')


def train(iteration, loss):
    return dict(lr=0.1, loss=loss, time=1.0, iter=iteration, step=iteration)


@pytest.fixture
def resumed(tmp_path):
    """A run validated at iteration 20 (epoch 1), stopped at 40 and resumed from 20."""
    validation = {'accuracy/top1': 50.0, 'time': 9.0, 'step': 1}
    work_dir = tmp_path / 'resumed'
    write_log(
        work_dir,
        '20260102_000000',
        [
            *(train(10, 4.0), train(20, 3.0), validation),
            *(train(30, 9.0), {'accuracy/top1': 9.0, 'step': 2}, train(40, 9.0)),
        ],
    )
    write_log(work_dir, '20260102_000001', [train(30, 2.0)])
    return work_dir


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
