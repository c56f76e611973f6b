"""``mmwf plot-logs``: plots and errors."""

import matplotlib.image
import pytest
from helpers import train_record as train
from helpers import write_log, write_resumed_log

from mmwf.commands.plot_logs import main
from mmwf.errors import UserError


@pytest.fixture
def resumed(tmp_path):
    return write_resumed_log(tmp_path)


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
