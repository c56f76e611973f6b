"""Hooks: matching checkpoints, gradients in fp16."""

from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from mmengine.logging import MMLogger
from mmengine.runner import EpochBasedTrainLoop
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mmwf.engine import CheckpointMatchHook, Fp16CompressionHook


class Classifier(nn.Module):
    def __init__(self, classes=3, width=4):
        super().__init__()
        self.backbone = nn.Linear(2, width)
        self.head = nn.Linear(width, classes)


def load(hook, state_dict, resume=False):
    runner = SimpleNamespace(
        model=Classifier(), logger=MMLogger.get_current_instance(), _resume=resume
    )
    hook.after_load_checkpoint(runner, dict(state_dict=state_dict, meta={}, message_hub={}))


def test_a_checkpoint_of_the_same_model_is_accepted():
    load(CheckpointMatchHook(strict=True), Classifier().state_dict())


def test_keys_of_data_parallel_models_are_accepted():
    state_dict = {f'module.{k}': v for k, v in Classifier().state_dict().items()}
    load(CheckpointMatchHook(strict=True), state_dict)


def test_load_from_may_change_the_head():
    load(CheckpointMatchHook(), Classifier(classes=7).state_dict())


def test_testing_or_resuming_may_not_change_the_head():
    for hook, resume in ((CheckpointMatchHook(strict=True), False), (CheckpointMatchHook(), True)):
        with pytest.raises(ValueError, match=r'2 of 4 keys matched; mismatched: head\.weight'):
            load(hook, Classifier(classes=7).state_dict(), resume)


def test_a_checkpoint_may_have_a_head_that_is_declared_unused():
    state_dict = Classifier().state_dict() | {'neck.weight': torch.zeros(1)}
    load(CheckpointMatchHook(strict=True, unused=['neck.']), state_dict)
    with pytest.raises(ValueError, match=r'unexpected: neck\.weight'):
        load(CheckpointMatchHook(strict=True, unused=['other.']), state_dict)


def test_another_backbone_is_an_error_that_names_the_first_keys():
    with pytest.raises(ValueError, match=r'mismatched: backbone\.weight \(5, 2\) \(expected \(4'):
        load(CheckpointMatchHook(), Classifier(width=5).state_dict())


def test_a_checkpoint_of_an_unrelated_model_is_an_error():
    with pytest.raises(ValueError, match=r'0 of 4 keys matched; missing: .*unexpected: weight'):
        load(CheckpointMatchHook(), nn.Linear(2, 2).state_dict())


def test_an_unrelated_checkpoint_is_refused_by_a_model_without_backbone_too():
    runner = SimpleNamespace(
        model=nn.Linear(2, 2), logger=MMLogger.get_current_instance(), _resume=False
    )
    with pytest.raises(ValueError, match='0 of 2 keys matched'):
        CheckpointMatchHook().after_load_checkpoint(runner, dict(state_dict={'a': torch.ones(1)}))


@pytest.mark.parametrize(
    ('scope', 'init_cfg', 'load_from', 'warns'),
    [
        ('mmdet', None, None, True),
        ('mmseg', None, None, True),
        ('mmseg', dict(type='Constant', layer='Linear', val=0), None, True),
        ('mmdet', dict(type='Pretrained', checkpoint='a.pth'), None, False),
        ('mmdet', None, 'a.pth', False),
        ('mmpretrain', None, None, False),
    ],
)
def test_only_detectors_and_segmentors_from_random_weights_are_warned_of(
    scope, init_cfg, load_from, warns
):
    messages = []
    model = Classifier()
    model.backbone.init_cfg = init_cfg
    runner = SimpleNamespace(
        model=model,
        logger=SimpleNamespace(warning=messages.append),
        cfg=dict(default_scope=scope),
        _load_from=load_from,
        _train_loop=object.__new__(EpochBasedTrainLoop),
    )
    CheckpointMatchHook().before_run(runner)
    assert len(messages) == warns
    assert all('THE BACKBONE STARTS FROM RANDOM WEIGHTS' in message for message in messages)


@pytest.fixture
def process_group(tmp_path):
    """A group with this process alone; its gradients are all-reduced all the same."""
    store = dist.FileStore(str(tmp_path / 'store'), 1)
    dist.init_process_group('gloo', store=store, rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.skipif(not dist.is_gloo_available(), reason='torch was built without gloo')
@pytest.mark.parametrize(('compress', 'expected'), [(True, 1.0), (False, 1 + 2.0**-14)])
def test_gradients_are_rounded_to_fp16_in_the_all_reduce_and_stay_fp32(
    process_group, compress, expected
):
    model = DistributedDataParallel(nn.Linear(1, 1, bias=False))
    if compress:
        Fp16CompressionHook().before_train(
            SimpleNamespace(model=model, logger=MMLogger.get_current_instance())
        )
    model(torch.full((1, 1), 1 + 2.0**-14)).sum().backward()  # fp16 has a step of 2^-10 at 1
    assert model.module.weight.grad.item() == expected
    assert model.module.weight.grad.dtype == torch.float32


def test_a_single_process_logs_that_nothing_is_compressed():
    messages = []
    runner = SimpleNamespace(model=nn.Linear(1, 1), logger=SimpleNamespace(info=messages.append))
    Fp16CompressionHook().before_train(runner)
    assert messages == ['Fp16CompressionHook: one process, so no gradients are exchanged.']
