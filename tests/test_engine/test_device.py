"""Adapting a run to the machine."""

import os
import sys

import pytest
import torch
from mmengine.config import Config

from mmwf.engine.device import choose_device, set_up_processes
from mmwf.errors import UserError

needs_cpu = pytest.mark.skipif(torch.cuda.is_available(), reason='needs a machine without a GPU')


@needs_cpu
def test_cuda_without_a_gpu_is_an_error_that_says_what_to_do():
    with pytest.raises(UserError, match='CUDA was requested .* sees no GPU.*omit the option'):
        choose_device('cuda', 'none')


@needs_cpu
def test_slurm_without_a_gpu_is_an_error():
    with pytest.raises(UserError, match='slurm launcher needs GPUs'):
        choose_device('auto', 'slurm')


def test_more_processes_than_gpus_are_an_error(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    monkeypatch.setenv('LOCAL_WORLD_SIZE', '8')
    with pytest.raises(UserError, match='8 processes .* 2 visible GPUs'):
        choose_device('auto', 'pytorch')


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
