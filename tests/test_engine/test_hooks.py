from types import SimpleNamespace

import pytest
from mmengine.logging import MMLogger
from torch import nn

from mmwf.engine import CheckpointMatchHook


class Classifier(nn.Module):
    def __init__(self, classes=3, width=4):
        super().__init__()
        self.backbone = nn.Linear(2, width)
        self.head = nn.Linear(width, classes)


def load(hook, state_dict, resume=False):
    runner = SimpleNamespace(
        model=Classifier(), logger=MMLogger.get_current_instance(), _resume=resume
    )
    hook.after_load_checkpoint(runner, dict(state_dict=state_dict))


def test_a_checkpoint_of_the_same_model_is_welcome():
    load(CheckpointMatchHook(strict=True), Classifier().state_dict())


def test_names_of_data_parallel_models_are_understood():
    state_dict = {f'module.{k}': v for k, v in Classifier().state_dict().items()}
    load(CheckpointMatchHook(strict=True), state_dict)


def test_starting_from_it_may_change_the_head():
    load(CheckpointMatchHook(), Classifier(classes=7).state_dict())


def test_testing_or_resuming_may_not_change_the_head():
    for hook, resume in ((CheckpointMatchHook(strict=True), False), (CheckpointMatchHook(), True)):
        with pytest.raises(ValueError, match=r'2 of 4 keys matched; mismatched: head\.weight'):
            load(hook, Classifier(classes=7).state_dict(), resume)


def test_another_backbone_is_an_error_that_names_the_first_keys():
    with pytest.raises(ValueError, match=r'mismatched: backbone\.weight \(5, 2\) \(expected \(4'):
        load(CheckpointMatchHook(), Classifier(width=5).state_dict())


def test_a_file_of_something_else_is_an_error():
    with pytest.raises(ValueError, match=r'0 of 4 keys matched; missing: .*unexpected: weight'):
        load(CheckpointMatchHook(), nn.Linear(2, 2).state_dict())
