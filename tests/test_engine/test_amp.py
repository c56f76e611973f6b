"""Mixed precision on GPU and CPU."""

import pytest
import torch
from torch import nn

from mmwf.engine import AmpOptimWrapper

needs_cpu = pytest.mark.skipif(torch.cuda.is_available(), reason='needs a machine without a GPU')


def make(**kwargs):
    layer = nn.Linear(4, 4)
    return layer, AmpOptimWrapper(optimizer=torch.optim.SGD(layer.parameters(), lr=0.1), **kwargs)


@needs_cpu
def test_on_a_cpu_it_trains_in_bf16():
    layer, wrapper = make()
    before = layer.weight.detach().clone()
    with wrapper.optim_context(layer):
        out = layer(torch.randn(2, 4))
    assert out.dtype == torch.bfloat16
    wrapper.update_params(out.float().square().mean())
    assert layer.weight.dtype == torch.float32
    assert not torch.equal(layer.weight, before)


@needs_cpu
def test_its_state_survives_a_round_trip():
    _, wrapper = make()
    _, other = make()
    other.load_state_dict(wrapper.state_dict())
    assert other.state_dict()['param_groups'] == wrapper.state_dict()['param_groups']


def test_a_gpu_with_bf16_uses_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda: True)
    _, wrapper = make()
    assert wrapper.cast_dtype == torch.bfloat16 and not wrapper.loss_scaler.is_enabled()


@needs_cpu
def test_fp16_on_a_cpu_is_an_error_that_suggests_bf16():
    with pytest.raises(ValueError, match="Expected dtype 'bfloat16' on a CPU, got 'float16'"):
        make(dtype='float16')


def test_an_unknown_dtype_is_an_error():
    with pytest.raises(ValueError, match="'bfloat16' or 'float16', got 'float8'"):
        make(dtype='float8')
