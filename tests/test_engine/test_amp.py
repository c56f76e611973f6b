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


@needs_cpu
def test_a_run_in_bf16_can_be_resumed_with_fp16():
    layer, bf16 = make()
    bf16.update_params(layer(torch.ones(1, 4)).sum())
    other, fp16 = make()
    fp16.loss_scaler = torch.amp.GradScaler('cpu', init_scale=8.0)  # fp16 itself needs a GPU
    state = bf16.state_dict()
    fp16.load_state_dict(state)
    assert fp16.loss_scaler.state_dict()['scale'] == 8.0
    assert state.keys() == bf16.state_dict().keys()  # what is loaded stays as it is
    fp16.load_state_dict(
        dict(fp16.state_dict(), loss_scaler=dict(fp16.loss_scaler.state_dict(), scale=4.0))
    )
    assert fp16.loss_scaler.state_dict()['scale'] == 4.0


def mmengines_wrapper_is_built(monkeypatch, native, emulated):
    """Tells whether MMEngine's fp16 wrapper is built on a GPU with this support of bf16."""
    built = []
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(
        torch.cuda,
        'is_bf16_supported',
        lambda including_emulation=True: native or (including_emulation and emulated),
    )
    monkeypatch.setattr(
        'mmengine.optim.AmpOptimWrapper.__init__', lambda self, **kwargs: built.append(kwargs)
    )
    make()
    return bool(built) and built[0]['dtype'] == 'float16'


@pytest.mark.parametrize(
    ('native', 'emulated', 'fp16'), [(True, True, False), (False, True, True), (False, False, True)]
)
def test_a_gpu_uses_bf16_only_if_it_computes_in_it(monkeypatch, native, emulated, fp16):
    assert mmengines_wrapper_is_built(monkeypatch, native, emulated) == fp16


@needs_cpu
def test_fp16_on_a_cpu_is_an_error_that_suggests_bf16():
    with pytest.raises(ValueError, match="Expected dtype 'bfloat16' on a CPU, got 'float16'"):
        make(dtype='float16')


def test_an_unknown_dtype_is_an_error():
    with pytest.raises(ValueError, match="'bfloat16' or 'float16', got 'float8'"):
        make(dtype='float8')
