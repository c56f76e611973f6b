"""``mmwf plot-logs``: plots and errors."""

import json

import matplotlib.image
import pytest

from mmwf.commands.plot_logs import main
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


def test_runs_with_the_same_name_are_both_plotted(resumed, tmp_path, monkeypatch):
    other = tmp_path / 'other' / 'resumed'
    write_log(other, '20260102_000000', [train(10, 1.0)])
    drawn = []
    monkeypatch.setattr(
        'mmwf.commands.plot_logs.draw_curves', lambda curves, *args: drawn.append(curves)
    )
    main([str(resumed), str(other)])
    assert [curves['loss'][10] for curves in drawn[0].values()] == [4.0, 1.0]


def test_the_plot_has_a_panel_for_each_key(resumed, tmp_path):
    one, three = tmp_path / 'one.png', tmp_path / 'three.png'
    main([str(resumed), '--keys', 'loss', '--out', str(one)])
    main([str(resumed), '--out', str(three)])
    widths = [matplotlib.image.imread(path).shape[1] for path in (one, three)]
    assert widths[1] - widths[0] == 2 * 4 * 110  # two panels of 4 inches more: lr and top-1


def test_an_unknown_key_is_an_error_that_lists_the_known_keys(resumed):
    with pytest.raises(UserError, match='accuracy/top1, loss, lr, time; got los'):
        main([str(resumed), '--keys', 'los'])
