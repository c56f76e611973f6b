"""Gradients that travel in fp16, between two real processes."""

import os
import socket
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mmengine.logging import MMLogger
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mmwf.engine import Fp16CompressionHook


def average_gradient(rank, port, queue):
    """The gradient of 2 * weight after averaging over ranks that scale it by 1 and by 1 + 2^-14."""
    os.environ.update(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
    dist.init_process_group('gloo', rank=rank, world_size=2)
    try:
        model = DistributedDataParallel(nn.Linear(1, 1, bias=False))
        Fp16CompressionHook().before_train(
            SimpleNamespace(model=model, logger=MMLogger.get_current_instance())
        )
        model(torch.full((1, 1), 1 + rank * 2.0**-14)).sum().backward()
        queue.put((model.module.weight.grad.item(), str(model.module.weight.grad.dtype)))
    finally:
        dist.destroy_process_group()


@pytest.mark.skipif(not dist.is_gloo_available(), reason='torch was built without gloo')
def test_two_processes_average_what_fp16_can_hold():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    context = mp.get_context('spawn')
    queue = context.SimpleQueue()
    mp.start_processes(average_gradient, (port, queue), nprocs=2, start_method='spawn')
    # In fp32 the mean would be 1 + 2^-15; fp16 has steps of 2^-10 there.
    assert [queue.get() for _ in range(2)] == [(1.0, 'torch.float32')] * 2


def test_one_process_says_that_there_is_nothing_to_do():
    messages = []
    runner = SimpleNamespace(model=nn.Linear(1, 1), logger=SimpleNamespace(info=messages.append))
    Fp16CompressionHook().before_train(runner)
    assert messages == ['Fp16CompressionHook: one process, so no gradients are exchanged.']
