"""Curves of trainings: joined after a resume, drawn, and what is wrong is said."""

import json

import matplotlib.image
import pytest

from mmwf.apis.environment import UserError
from mmwf.apis.plot_logs import main, read_scalars


def write_log(work_dir, timestamp, records):
    folder = work_dir / timestamp / 'vis_data'
    folder.mkdir(parents=True)
    lines = (json.dumps(record) for record in records)
    (folder / 'scalars.json').write_text('\n'.join(lines) + '\n')


def train(iteration, loss):
    return dict(lr=0.1, loss=loss, time=1.0, iter=iteration, step=iteration)


@pytest.fixture
def resumed(tmp_path):
    """Validated after 20 (as epoch 1), stopped after 40, resumed from 20."""
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


def test_a_resumed_run_replaces_what_came_after_its_checkpoint(resumed):
    curves, metrics = read_scalars(resumed)
    assert curves['loss'] == {10: 4.0, 20: 3.0, 30: 2.0}
    assert curves['accuracy/top1'] == {20: 50.0}
    assert metrics == ['accuracy/top1']


def test_a_validation_stands_at_its_iteration_and_its_time_is_not_the_trainings(resumed):
    curves, _ = read_scalars(resumed)
    assert curves['accuracy/top1'] == {20: 50.0}
    assert curves['time'] == {10: 1.0, 20: 1.0, 30: 1.0}


def test_the_minus_one_of_coco_is_no_value(tmp_path):
    bbox = {'coco/bbox_mAP': 0.2, 'coco/bbox_mAP_s': -1.0, 'step': 20}
    later = {'coco/bbox_mAP': 0.3, 'coco/bbox_mAP_s': 0.1, 'step': 40}
    logged = [train(20, -1), bbox, train(40, 3.0), later]
    write_log(tmp_path, '20260102_000000', logged)
    curves, _ = read_scalars(tmp_path)
    assert curves['coco/bbox_mAP_s'] == {40: 0.1}
    assert curves['coco/bbox_mAP'] == {20: 0.2, 40: 0.3}
    assert curves['loss'] == {20: -1, 40: 3.0}  # elsewhere it is a value


def test_runs_of_the_same_name_are_both_drawn(resumed, tmp_path, monkeypatch):
    other = tmp_path / 'other' / 'resumed'
    write_log(other, '20260102_000000', [train(10, 1.0)])
    drawn = []
    monkeypatch.setattr('mmwf.apis.plot_logs.draw', lambda curves, *args: drawn.append(curves))
    main([str(resumed), str(other)])
    assert [curves['loss'][10] for curves in drawn[0].values()] == [4.0, 1.0]


def test_the_picture_has_a_panel_for_each_key(resumed, tmp_path):
    one, three = tmp_path / 'one.png', tmp_path / 'three.png'
    main([str(resumed), '--keys', 'loss', '--out', str(one)])
    main([str(resumed), '--out', str(three)])
    widths = [matplotlib.image.imread(path).shape[1] for path in (one, three)]
    assert widths[1] - widths[0] == 2 * 4 * 110  # two panels of 4 inches more: lr and top-1


def test_without_logs_the_error_says_where_they_were_expected(tmp_path):
    with pytest.raises(UserError, match=r'vis_data/scalars\.json.*none'):
        main([str(tmp_path)])


def test_an_unknown_key_is_an_error_that_lists_the_known(resumed):
    with pytest.raises(UserError, match='accuracy/top1, loss, lr, time; got los'):
        main([str(resumed), '--keys', 'los'])
