"""The stand-in for mmcv._ext: when it is installed, what it has, and what raises."""

import importlib
import pkgutil
import sys
from importlib.machinery import ModuleSpec
from types import SimpleNamespace

import pytest

from mmwf import mmcv_ext

HAS_COMPILED_OPS = mmcv_ext.has_compiled_mmcv_ops()
without_compiled_ops = pytest.mark.skipif(
    HAS_COMPILED_OPS, reason='mmcv has its compiled ops, so nothing is replaced'
)


@pytest.fixture
def no_extension(monkeypatch):
    """Simulates a process in which mmcv._ext is neither imported nor replaced."""
    monkeypatch.setattr(sys, 'meta_path', sys.meta_path[:])
    sys.meta_path[:] = [f for f in sys.meta_path if not isinstance(f, mmcv_ext._ExtensionFinder)]
    monkeypatch.delitem(sys.modules, 'mmcv._ext', raising=False)
    yield sys.modules
    sys.modules.pop('mmcv._ext', None)


def test_nothing_is_installed_over_a_compiled_module(no_extension, monkeypatch):
    monkeypatch.setattr(mmcv_ext, 'has_compiled_mmcv_ops', lambda: True)
    assert mmcv_ext.install() is False
    assert 'mmcv._ext' not in no_extension


def test_nothing_is_installed_over_an_imported_module(no_extension, monkeypatch):
    monkeypatch.setitem(no_extension, 'mmcv._ext', 'theirs')
    assert mmcv_ext.install() is False
    assert no_extension['mmcv._ext'] == 'theirs'


def test_the_stand_in_is_installed_once(no_extension, monkeypatch):
    monkeypatch.setattr(mmcv_ext, 'has_compiled_mmcv_ops', lambda: False)
    assert mmcv_ext.install() is True
    finders = len(sys.meta_path)
    assert mmcv_ext.install() is True
    assert len(sys.meta_path) == finders


def test_a_compiled_module_goes_first(tmp_path, run_python):
    (tmp_path / 'mmcv').mkdir()
    (tmp_path / 'mmcv/__init__.py').touch()
    (tmp_path / 'mmcv/_ext.py').write_text('theirs = True')
    (tmp_path / 'mmcv/ops.py').write_text('from mmcv._ext import theirs')
    result = run_python(
        f'import sys; sys.path.insert(0, {str(tmp_path)!r})\n'
        'import mmwf, mmcv.ops\n'
        'print(mmcv.ops.theirs, mmwf.mmcv_ext.install())'
    )
    assert result.stdout.split() == ['True', 'False'], result.stderr


@pytest.mark.parametrize(
    ('files', 'expected'),
    [(['__init__.py'], False), (['__init__.py', '_ext.cpython-311-x86_64-linux-gnu.so'], True)],
)
def test_compiled_ops_are_recognised_by_their_file(tmp_path, monkeypatch, files, expected):
    (tmp_path / 'mmcv').mkdir()
    for name in files:
        (tmp_path / 'mmcv' / name).touch()
    spec = ModuleSpec('mmcv', None, is_package=True)
    spec.submodule_search_locations.append(str(tmp_path / 'mmcv'))
    monkeypatch.setattr(mmcv_ext.importlib.util, 'find_spec', lambda name: spec)
    assert mmcv_ext.has_compiled_mmcv_ops() is expected


def test_no_mmcv_has_no_compiled_ops(monkeypatch):
    monkeypatch.setattr(mmcv_ext.importlib.util, 'find_spec', lambda name: None)
    assert mmcv_ext.has_compiled_mmcv_ops() is False


@without_compiled_ops
def test_importing_mmwf_does_not_import_the_operations(run_python):
    result = run_python(
        'import sys, mmwf\n'
        "print([m for m in ('torchvision', 'mmcv', 'mmwf.mmcv_ext.rois') if m in sys.modules])"
    )
    assert result.stdout.strip() == '[]', result.stderr


@without_compiled_ops
def test_mmcv_ops_is_its_own_python_over_the_stand_in(run_python):
    result = run_python(
        'import mmwf, mmcv.ops, mmcv._ext\nprint(mmcv.ops.nms.__module__, mmcv._ext.nms.__module__)'
    )
    assert result.stdout.split() == ['mmcv.ops.nms', 'mmwf.mmcv_ext.suppression'], result.stderr


def test_every_file_of_mmcv_ops_imports():
    import mmcv.ops

    names = [module.name for module in pkgutil.iter_modules(mmcv.ops.__path__)]
    assert len(names) > 50
    for name in names:
        importlib.import_module(f'mmcv.ops.{name}')


@without_compiled_ops
def test_what_is_missing_raises_only_when_it_is_called():
    from mmcv import _ext
    from mmcv.ops import three_nn
    from mmcv.ops.three_nn import ThreeNN  # noqa: F401

    assert hasattr(_ext, 'three_nn_forward')
    with pytest.raises(RuntimeError, match='mmcv._ext.three_nn_forward.*MMCV_WITH_OPS=1 pip'):
        _ext.three_nn_forward(1, key=2)
    assert callable(three_nn)


@pytest.mark.parametrize(
    ('name', 'command'),
    [
        ('onedl-mmcv', '--no-binary onedl-mmcv onedl-mmcv==2.1.0'),
        ('mmcv', '--no-binary mmcv mmcv==2.1.0'),
        ('mmcv-lite', '--no-binary mmcv mmcv==2.1.0'),
    ],
)
def test_the_command_that_compiles_mmcv_is_for_its_family(monkeypatch, name, command):
    found = SimpleNamespace(name=name, version='2.1.0')
    monkeypatch.setattr(mmcv_ext, 'find_distribution', lambda package: found)
    message = mmcv_ext._needs_compiled_mmcv()
    assert message.endswith(command)
    # mmcv does not replace mmcv-lite by itself.
    assert ('pip uninstall -y mmcv-lite' in message) == (name == 'mmcv-lite')


@without_compiled_ops
@pytest.mark.parametrize('name', ['__path__', '__wrapped__', '_private'])
def test_private_names_are_not_provided(name):
    from mmcv import _ext

    with pytest.raises(AttributeError, match=f"'mmcv._ext' has no attribute '{name}'"):
        getattr(_ext, name)


@without_compiled_ops
def test_mmcv_lists_its_environment():
    from mmcv.utils import collect_env

    assert 'mmwf' in collect_env()['MMCV Compiler']


@pytest.mark.parametrize('scope', ['mmdet', 'mmseg'])
def test_models_import_in_a_fresh_interpreter(scope, run_python):
    result = run_python(
        'import mmwf\n'
        f'import {scope}.models\n'
        f'from {scope}.registry import MODELS\n'
        'from mmengine.registry import init_default_scope\n'
        f"init_default_scope('{scope}')\n"
        "layer = MODELS.build(dict(type='DCNv2', in_channels=2, out_channels=2, kernel_size=3))\n"
        'print(type(layer).__name__)'
    )
    assert result.stdout.split() == ['ModulatedDeformConv2dPack'], result.stderr
