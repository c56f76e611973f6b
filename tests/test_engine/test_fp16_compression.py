"""Gradients that travel in fp16."""

from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from mmengine.logging import MMLogger
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mmwf.engine import Fp16CompressionHook


@pytest.fixture
def process_group(tmp_path):
    """A group of this process alone: what matters is what its gradients go through."""
    store = dist.FileStore(str(tmp_path / 'store'), 1)
    dist.init_process_group('gloo', store=store, rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.skipif(not dist.is_gloo_available(), reason='torch was built without gloo')
@pytest.mark.parametrize(('compress', 'expected'), [(True, 1.0), (False, 1 + 2.0**-14)])
def test_gradients_are_rounded_to_fp16_on_their_way_and_stay_fp32(
    process_group, compress, expected
):
    model = DistributedDataParallel(nn.Linear(1, 1, bias=False))
    if compress:
        Fp16CompressionHook().before_train(
            SimpleNamespace(model=model, logger=MMLogger.get_current_instance())
        )
    model(torch.full((1, 1), 1 + 2.0**-14)).sum().backward()  # fp16 has steps of 2^-10 there
    assert model.module.weight.grad.item() == expected
    assert model.module.weight.grad.dtype == torch.float32


def test_one_process_says_that_there_is_nothing_to_do():
    messages = []
    runner = SimpleNamespace(model=nn.Linear(1, 1), logger=SimpleNamespace(info=messages.append))
    Fp16CompressionHook().before_train(runner)
    assert messages == ['Fp16CompressionHook: one process, so no gradients are exchanged.']
