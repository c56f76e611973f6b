"""Fixtures of several test files."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.registry import DefaultScope
from safetensors.torch import load_file, save_file

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
def publish(tmp_path, monkeypatch):
    """Puts weights into a cache as the Hugging Face hub's client keeps it; there is no network."""
    cache = tmp_path / 'hub'
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_CACHE', str(cache))
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_OFFLINE', True)

    def put(repository, weights, revision='main'):
        folder = cache / f'models--{repository.replace("/", "--")}'
        commit = hashlib.sha1(revision.encode()).hexdigest()
        (folder / 'refs').mkdir(parents=True, exist_ok=True)
        (folder / 'refs' / revision).write_text(commit)
        (folder / 'snapshots' / commit).mkdir(parents=True)
        weights = {key: value.contiguous() for key, value in weights.items()}
        save_file(weights, folder / 'snapshots' / commit / 'model.safetensors')

    return put


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
