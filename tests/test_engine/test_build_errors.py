"""Explaining errors of what is built from a config."""

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import HOOKS, MODELS, PARAM_SCHEDULERS, Registry

from mmwf.commands import run_main
from mmwf.engine.build_errors import explain_build_error, keywords

TOYS = Registry('toy', scope='mmengine')


class Base:
    def __init__(self, size, colour='red'):
        if size < 0:
            raise ValueError(f'Expected a positive size, got {size}.')
        self.size = size


@TOYS.register_module()
class Ball(Base):
    def __init__(self, weight=1, **kwargs):
        super().__init__(**kwargs)


@TOYS.register_module()
class Broken(Base):
    def __init__(self, **kwargs):
        self.colour = self.paint(**kwargs)

    def paint(self, colour):
        return {}['missing'] if colour == 'none' else int(colour)


def explain(**settings):
    try:
        TOYS.build(settings)
    except Exception as error:
        return explain_build_error(error)
    raise AssertionError('nothing went wrong')


def test_wrong_names_and_values_are_explained():
    assert explain(type='Bal') == "There is no toy 'Bal'. Did you mean Ball?"
    assert explain(size=1) == 'A toy needs a type; it has size.'
    assert explain(type='Ball', size=1, color='blue') == (
        "Ball has no argument 'color' (got color='blue'). Did you mean colour?"
    )
    assert explain(type='Ball', size=-1) == 'Ball: Expected a positive size, got -1.'


def test_schedules_that_are_converted_to_iterations_are_explained_too():
    settings = dict(convert_to_iter_based=True, epoch_length=3, T_maxx=4, end=5)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    for name, expected in {
        'CosineAnnealingLR': "CosineAnnealingLR has no argument 'T_maxx' (got T_maxx=4).",
        'CosineAnealingLR': "There is no parameter scheduler 'CosineAnealingLR'.",
    }.items():
        with pytest.raises((TypeError, KeyError)) as error:
            PARAM_SCHEDULERS.build(dict(settings, type=name, optimizer=optimizer))
        assert explain_build_error(error.value).startswith(f'{expected} Did you mean ')


def test_errors_of_the_code_are_not():
    assert explain(type='Broken', colour='none') is None
    assert explain(type='Broken', colour='blue') is None
    assert explain_build_error(ValueError('elsewhere')) is None


def test_a_name_of_another_scope_is_compared_with_the_names_there():
    try:
        MODELS.build(dict(type='mmwf.GaussianDifusion'))
    except KeyError as error:
        assert explain_build_error(error) == (
            "There is no model 'mmwf.GaussianDifusion'. Did you mean mmwf.GaussianDiffusion?"
        )


def test_arguments_are_those_of_the_class_and_its_bases():
    assert keywords(Ball) == ({'weight', 'size', 'colour'}, False)
    assert keywords(Base) == ({'size', 'colour'}, True)
    known, is_all = keywords(HOOKS.get('CheckpointHook'))
    assert {'interval', 'save_best', 'save_param_scheduler', 'file_client_args'} <= known and is_all


def test_a_command_prints_the_explanation_only():
    with pytest.raises(SystemExit, match=r"^error: There is no toy 'Bal'\. Did you mean Ball\?$"):
        run_main(lambda: TOYS.build(Config(dict(type='Bal'))))
    with pytest.raises(KeyError, match='missing'):
        run_main(lambda: TOYS.build(dict(type='Broken', colour='none')))


def test_ctrl_c_says_how_to_go_on(capsys):
    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as exit_:
        run_main(interrupt)
    assert exit_.value.code == 130
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith('error: Interrupted') and '--resume' in line
