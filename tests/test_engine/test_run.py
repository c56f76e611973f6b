"""Building the Runner."""

import logging

import pytest
from mmengine.hooks import LoggerHook

from mmwf.engine import SignalHook, StallHook
from mmwf.engine.config import load_config
from mmwf.engine.run import _is_relevant, set_up_run

CLASSIFIER = 'configs/quickstart/weightformer-w64d8-p4_1xb64-20e_digits-32px.py'


@pytest.mark.parametrize(
    ('message', 'expected'),
    [
        ('"FileClient" will be deprecated in future.', False),
        ('The prefix is not set in metric class Accuracy.', False),
        ('Epoch(train) [1][1/10]', True),
    ],
)
def test_only_known_messages_are_dropped(message, expected):
    record = logging.LogRecord('mmengine', logging.WARNING, '', 0, message, (), None)
    assert _is_relevant(record) is expected


def test_default_hooks_are_turned_off_by_none(tmp_path):
    options = {
        'default_hooks.signals': None,
        'default_hooks.logger': None,
        'work_dir': str(tmp_path),
    }
    hooks = [type(hook) for hook in set_up_run(load_config(CLASSIFIER, options)).hooks]
    assert StallHook in hooks
    assert SignalHook not in hooks and LoggerHook not in hooks
