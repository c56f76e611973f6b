"""The comparison of predictors: what each row trains, and what is not repeated."""

import json
from pathlib import Path

import pytest
from mmengine.registry import MODELS

from mmwf.apis import compare_predictors
from mmwf.apis.compare_predictors import NAME, build_config, find_rows, format_table, main, train
from mmwf.apis.environment import UserError
from mmwf.apis.plot_logs import read_scalars
from mmwf.datasets.digits import write_digits
from mmwf.models.layers import DWCONV_PREDICTORS, LINEAR_PREDICTORS

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def in_the_project(monkeypatch):
    monkeypatch.chdir(ROOT)


def predictors(name):
    """The dynamic layers of a row's classifier: (layer, class of the predictor)."""
    model = MODELS.build(build_config(find_rows()[name], 10, 0, 'x').model.backbone)
    assert model.embed_dims == 64 and model.depth == 8
    return {
        (path.split('.')[-2], type(module))
        for path, module in model.named_modules()
        if path.endswith('.predictor')
    }


def test_every_strategy_has_a_row_that_trains_it():
    for family, layer, known in (
        ('linear', 'fc1', LINEAR_PREDICTORS),
        ('dwconv', 'dwconv', DWCONV_PREDICTORS),
    ):
        for strategy, predictor in known.items():
            row = f'{family}-{strategy}'
            assert row in find_rows(), f'add configs/predictors/{NAME.format(row)}'
            assert predictors(row) == {(layer, predictor)}
    bilateral, adaptive = LINEAR_PREDICTORS['bilateral'], DWCONV_PREDICTORS['adaptive']
    assert predictors('linear-bilateral-fc1-fc2') == {('fc1', bilateral), ('fc2', bilateral)}
    assert predictors('default') == {('fc1', bilateral), ('dwconv', adaptive)}
    assert predictors('static') == set()


@pytest.mark.parametrize(
    ('row', 'blocks'), [('3', (1, 7)), ('9', (0, 2, 4, 6)), ('17', tuple(range(8)))]
)
def test_dynamic_blocks_keep_their_pattern_in_the_shallower_classifier(row, blocks):
    cfg = build_config(find_rows()[f'dynamic-blocks-{row}'], 10, 0, 'x')
    assert MODELS.build(cfg.model.backbone).dynamic_blocks == blocks


def test_the_schedule_is_as_long_as_the_training():
    cfg = build_config(find_rows()['static'], 1, 7, 'x')
    cosine, warm_up = cfg.param_scheduler
    assert cfg.train_cfg.max_epochs == cosine.T_max == cosine.end == warm_up.end == 1
    assert cfg.randomness.seed == 7
    assert build_config(find_rows()['static'], 30, 0, 'x').param_scheduler[1].end == 2


def test_the_result_depends_on_the_seed_and_not_on_what_ran_before(tmp_path):
    write_digits('data/digits')

    def run(seed, name):
        cfg = build_config(find_rows()['default'], 1, seed, tmp_path / name)
        cfg.train_dataloader.dataset.indices = 128
        cfg.test_dataloader.dataset.indices = 50
        cfg.default_hooks.logger.interval = 1
        return train(cfg), read_scalars(tmp_path / name)[0]['loss']

    first, other, again = run(0, 'first'), run(1, 'other'), run(0, 'again')
    assert first[0] in range(0, 101, 2)  # % of 50 images
    assert len(first[1]) == 2
    assert again == first and other[1] != first[1]


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


def test_the_table_gives_mean_range_and_ratio_to_the_first_row():
    runs = {'static': {'0': 97.0, '1': 98.0}, 'linear-gap': {'0': 96.0}}
    *_, first, second = format_table(runs, {'static': 20.0, 'linear-gap': 15.0}).splitlines()
    assert first == '| static | 97.0 | 98.0 | 97.5 | 97.0 - 98.0 | 20.0 | 1.00 |'
    assert second == '| linear-gap | 96.0 |  | 96.0 | 96.0 - 96.0 | 15.0 | 0.75 |'


def test_another_folder_and_no_epochs_are_told(tmp_path, monkeypatch):
    with pytest.raises(UserError, match='at least 1 epoch, got 0'):
        main(['--epochs', '0'])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match='run from the folder of the project'):
        main([])


def test_an_unknown_row_is_an_error_that_lists_the_known():
    with pytest.raises(UserError, match='Expected rows out of static, .*; got stattic'):
        main(['--rows', 'stattic'])
