"""``mmwf compare-predictors``."""

import json

import pytest

from mmwf.commands import compare_predictors
from mmwf.commands.compare_predictors import main
from mmwf.errors import UserError


def test_finished_runs_are_not_repeated(tmp_path, monkeypatch, capsys):
    trained = []

    def record(cfg):
        trained.append((cfg.model.backbone.get('dynamic_blocks'), cfg.randomness.seed))
        return 90.0 + cfg.randomness.seed

    monkeypatch.setattr(compare_predictors, 'write_digits', lambda root: None)
    monkeypatch.setattr(compare_predictors, 'train', record)
    monkeypatch.setattr(compare_predictors, 'measure_speed', lambda rows: dict.fromkeys(rows, 2.0))
    command = ['--epochs', '3', '--work-dir', str(tmp_path), '--rows', 'static']
    main([*command, '--seeds', '0', '2'])
    main([*command, '--seeds', '0', '1', '2'])
    assert trained == [('none', 0), ('none', 2), ('none', 1)]
    assert '| static | 90.0 | 91.0 | 92.0 | 91.0 | 90.0 - 92.0 |' in capsys.readouterr().out
    results = json.loads((tmp_path / '3e' / 'results.json').read_text())
    assert results['runs'] == {'static': {'0': 90.0, '2': 92.0, '1': 91.0}}
    assert results['epochs'] == 3 and results['machine']['device']
    main(['--epochs', '4', *command[2:], '--seeds', '0'])  # another length is another result
    assert len(trained) == 4


def test_no_epochs_are_an_error():
    with pytest.raises(UserError, match='got 0'):
        main(['--epochs', '0'])


def test_an_unknown_row_is_an_error_that_lists_the_known():
    with pytest.raises(UserError, match='Expected .* of static, .*; got stattic'):
        main(['--rows', 'stattic'])
