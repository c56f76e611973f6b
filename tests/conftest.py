"""Fixtures of several test files."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.registry import DefaultScope
from safetensors.torch import load_file

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def exact_fp32():
    """Turns TF32 off, which runs turn on for the whole process where there is a GPU."""
    torch.set_float32_matmul_precision('highest')
    torch.backends.cudnn.allow_tf32 = False


@pytest.fixture(autouse=True)
def own_default_scope():
    """Resets the default scope, so that no test sees that of another."""
    with DefaultScope.overwrite_default_scope('mmengine'):
        yield


@pytest.fixture(params=['d3_px112', 'd5_px64'])
def golden_name(request):
    return request.param


@pytest.fixture
def golden(golden_name):
    """Tensors of the released model: parameters, input, outputs and gradients (width 32)."""
    return load_file(ROOT / f'tests/data/weightformer_cls_e32_{golden_name}.safetensors')


@pytest.fixture
def golden_arch(golden_name):
    return dict(embed_dims=32, depth=int(golden_name[1]), mlp_ratio=4)


@pytest.fixture
def released_weights(golden):
    """The golden parameters with their released keys, as in a published checkpoint."""
    return {k.removeprefix('param/'): v for k, v in golden.items() if k.startswith('param/')}


@pytest.fixture
def randomize():
    """Randomizes all parameters of a module, so that none is zero by initialization."""

    def fill(module, std=0.3):
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, std=std)
        return module

    return fill


@pytest.fixture
def run_python():
    """Runs code in a fresh interpreter and returns the finished process."""

    def run(code):
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')]))
        return subprocess.run(
            [sys.executable, '-c', code],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={**os.environ, 'PYTHONPATH': path},
            timeout=300,
        )

    return run
