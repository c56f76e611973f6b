"""The Triton backend: how it is chosen, and its kernels, which are tested in other processes."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

needs_triton = pytest.mark.skipif(
    importlib.util.find_spec('triton') is None, reason='Triton is not installed'
)


def run_tests(name, tmp_path, **environment):
    """Runs a file of tests in a process of its own, with an empty cache of compiled kernels."""
    environment |= dict(PYTHONPATH=str(ROOT), TRITON_CACHE_DIR=str(tmp_path))
    return subprocess.run(
        [sys.executable, '-m', 'pytest', f'tests/{name}', '-p', 'no:cacheprovider'],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **environment},
        timeout=900,
    )


@needs_triton
@pytest.mark.slow
@pytest.mark.parametrize(
    ('name', 'interpret'), [('interpret_triton.py', '1'), ('compile_triton.py', '0')]
)
def test_kernels(tmp_path, name, interpret):
    process = run_tests(name, tmp_path, TRITON_INTERPRET=interpret)
    assert process.returncode == 0, process.stdout


def test_triton_is_not_imported_before_it_is_chosen(run_python):
    # Not 'triton' itself, which older versions of PyTorch import.
    code = "import sys, mmwf.models; assert 'mmwf.ops.triton' not in sys.modules"
    assert run_python(code).returncode == 0


def test_without_triton_the_error_names_another_backend(run_python):
    code = """
import sys
sys.modules['triton'] = None  # importing it raises ModuleNotFoundError
from mmwf import ops
from mmwf.errors import UserError
try:
    ops.set_backend('triton')
except UserError as error:
    print(error)
print(ops.get_backend())
"""
    process = run_python(code)
    assert 'pip install triton' in process.stdout and "set_backend('eager')" in process.stdout
    assert process.stdout.splitlines()[-1] == 'eager'


@needs_triton
def test_tensors_on_the_cpu_are_rejected_with_what_to_do(run_python, monkeypatch):
    monkeypatch.delenv('TRITON_INTERPRET', raising=False)
    code = """
import torch
from mmwf import ops
from mmwf.errors import UserError
with ops.use_backend('triton'):
    try:
        ops.dwconv2d(torch.randn(1, 2, 2, 4), torch.randn(4, 1, 3, 3), torch.randn(4))
    except UserError as error:
        print(error)
"""
    process = run_python(code)
    for expected in ('on the CPU', "set_backend('eager')", 'TRITON_INTERPRET=1'):
        assert expected in process.stdout
