"""Building the Runner."""

import logging

import pytest

from mmwf.engine.run import _is_relevant


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
