"""Adapting a run to the machine."""

import os
import socket
import sys
import time
from unittest import mock

import pytest
import torch
from mmengine.config import Config
from torch import distributed

from mmwf.engine.device import choose_device, set_up_processes
from mmwf.errors import UserError

LAUNCHED = ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'LOCAL_WORLD_SIZE')
needs_cpu = pytest.mark.skipif(torch.cuda.is_available(), reason='needs a machine without a GPU')


@pytest.fixture
def environ():
    """The environment without a launcher, restored after the test."""
    with mock.patch.dict(os.environ):
        for name in list(os.environ):
            if name in LAUNCHED or name.startswith(('SLURM_', 'OMPI_', 'MASTER_')):
                del os.environ[name]
        yield os.environ


@pytest.fixture(autouse=True)
def own_precision():
    """Restores the precision of fp32 products, which is that of the whole process."""
    precision, convolutions = (
        torch.get_float32_matmul_precision(),
        torch.backends.cudnn.allow_tf32,
    )
    yield
    torch.set_float32_matmul_precision(precision)
    torch.backends.cudnn.allow_tf32 = convolutions


@needs_cpu
def test_cuda_without_a_gpu_is_an_error_that_says_what_to_do():
    with pytest.raises(UserError, match='CUDA was requested .* sees no GPU.*omit the option'):
        choose_device('cuda', 'none')


def test_more_processes_than_gpus_are_an_error(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    monkeypatch.setenv('LOCAL_WORLD_SIZE', '8')
    with pytest.raises(UserError, match='8 processes .* 2 visible GPUs'):
        choose_device('auto', 'pytorch')


@pytest.mark.parametrize('local_rank', ['1', '2'])
def test_under_slurm_every_process_needs_a_gpu(environ, monkeypatch, local_rank):
    """Slurm tells a process its index on the machine, but not the number of processes there."""
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    environ['SLURM_LOCALID'] = local_rank
    if local_rank == '1':  # the second of two
        choose_device('auto', 'slurm')
        return
    with pytest.raises(UserError, match='3 processes .* 2 visible GPUs'):
        choose_device('auto', 'slurm')


def test_cpu_on_a_machine_with_a_gpu_restarts_the_program_without_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '0')
    started = []
    monkeypatch.setattr('os.execv', lambda *command: started.append(command))
    choose_device('cpu', 'none')
    assert started == [(sys.executable, sys.orig_argv)]
    assert os.environ['CUDA_VISIBLE_DEVICES'] == '-1'


def config():
    norm = dict(type='SyncBN', requires_grad=True)
    heads = [dict(norm_cfg=norm), dict(layers=(dict(norm_cfg=norm),))]
    return Config(
        dict(
            model=dict(backbone=dict(norm_cfg=norm), heads=heads),
            train_dataloader=dict(pin_memory=True),
        )
    )


@pytest.mark.parametrize('has_gpu', [True, False])
def test_only_without_a_gpu_memory_is_not_pinned_and_sync_bn_becomes_bn(monkeypatch, has_gpu):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: has_gpu)
    cfg = config()
    set_up_processes(cfg, 'none')
    assert cfg.train_dataloader.pin_memory is has_gpu
    model = str(cfg.model)
    assert [model.count(norm) for norm in ("'SyncBN'", "'BN'")] == ([3, 0] if has_gpu else [0, 3])


@pytest.mark.parametrize(
    ('has_gpu', 'settings', 'precision', 'convolutions'),
    [
        (True, {}, 'high', True),
        (True, dict(float32_matmul_precision='highest'), 'highest', False),
        (False, {}, 'highest', True),
    ],
)
def test_fp32_products_use_tf32_on_a_gpu_unless_switched_off(
    monkeypatch, has_gpu, settings, precision, convolutions
):
    torch.set_float32_matmul_precision('highest')  # the defaults of PyTorch
    torch.backends.cudnn.allow_tf32 = True
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: has_gpu)
    set_up_processes(Config({**config(), **settings}), 'none')
    assert torch.get_float32_matmul_precision() == precision
    assert torch.backends.cudnn.allow_tf32 is convolutions


def test_an_unknown_precision_is_an_error():
    cfg = Config(dict(model=dict(), float32_matmul_precision='tf32'))
    with pytest.raises(UserError, match="one of highest, high, medium, got 'tf32'"):
        set_up_processes(cfg, 'none')


def slurm_task(port, num_tasks=1):
    """The variables of the first task of a job on one node."""
    return dict(
        SLURM_PROCID='0', SLURM_LOCALID='0', SLURM_NTASKS=str(num_tasks), SLURM_STEP_NODELIST='n1',
        SLURM_STEP_NUM_NODES='1', SLURM_JOB_ID='3', SLURM_STEP_ID='0', MASTER_PORT=str(port),
    )  # fmt: skip


@pytest.fixture
def free_port():
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        return server.getsockname()[1]


@needs_cpu
def test_slurm_without_a_gpu_runs_with_gloo(environ, free_port):
    environ.update(slurm_task(free_port))
    choose_device('auto', 'slurm')
    cfg = config()
    try:
        set_up_processes(cfg, 'slurm')
        assert distributed.get_backend() == 'gloo'
        assert cfg.model_wrapper_cfg.device_ids is None
        set_up_processes(config(), 'slurm')  # keeps a group that exists
    finally:
        distributed.destroy_process_group()


@pytest.mark.parametrize('norm', ['SyncBN', 'LN'])
@pytest.mark.parametrize('unused', [False, True])
def test_without_a_gpu_statistics_of_bn_are_broadcast_and_unused_parameters_may_be_found(
    environ, monkeypatch, norm, unused
):
    environ.update(slurm_task(0))
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr('mmwf.engine.device.is_distributed', lambda: True)
    cfg = Config(dict(model=dict(norm_cfg=dict(type=norm)), find_unused_parameters=unused))
    set_up_processes(cfg, 'slurm')
    assert cfg.model_wrapper_cfg.broadcast_buffers is (norm == 'SyncBN')
    assert cfg.model_wrapper_cfg.find_unused_parameters is unused


def test_slurm_has_its_port_before_mmengine_makes_the_group_on_a_gpu(monkeypatch, environ):
    environ.update(slurm_task(0))
    del environ['MASTER_PORT']
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    set_up_processes(config(), 'slurm')
    assert environ['MASTER_PORT'] == '20021'
    assert not distributed.is_initialized()


@needs_cpu
def test_a_process_waits_for_the_others_for_the_timeout_of_the_config(environ, free_port):
    environ.update(slurm_task(free_port, num_tasks=2))
    cfg, start = config(), time.monotonic()
    cfg.env_cfg = dict(dist_cfg=dict(timeout=1))
    with pytest.raises(distributed.DistError, match='1/2 clients joined'):
        set_up_processes(cfg, 'slurm')
    assert time.monotonic() - start < 60  # by default half an hour
