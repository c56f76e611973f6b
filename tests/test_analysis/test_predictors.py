"""The comparison of the weight predictors: what each row trains."""

from pathlib import Path

import pytest
from mmengine.registry import MODELS

from mmwf.analysis.logs import read_scalars
from mmwf.analysis.predictors import NAME, build_config, find_rows, format_table, train
from mmwf.datasets.toy.digits import write_digits
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


def test_the_table_gives_mean_range_and_ratio_to_the_first_row():
    runs = {'static': {'0': 97.0, '1': 98.0}, 'linear-gap': {'0': 96.0}}
    *_, first, second = format_table(runs, {'static': 20.0, 'linear-gap': 15.0}).splitlines()
    assert first == '| static | 97.0 | 98.0 | 97.5 | 97.0 - 98.0 | 20.0 | 1.00 |'
    assert second == '| linear-gap | 96.0 |  | 96.0 | 96.0 - 96.0 | 15.0 | 0.75 |'
