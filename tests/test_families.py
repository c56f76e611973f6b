"""The two families of OpenMMLab packages: which one is installed, and what is missing or mixed."""

import re
import sys
import warnings
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace

import pytest
from mmengine.config import Config

from mmwf import families
from mmwf.errors import UserError
from mmwf.libraries import import_task_library

REQUIREMENTS = Path(__file__).parents[1] / 'requirements'
UPSTREAM = {'mmengine': '0.10.7', 'mmcv-lite': '2.1.0', 'mmdet': '3.3.0'}
MAINTAINED = {'onedl-mmengine': '0.10.12', 'onedl-mmcv': '2.3.6'}


@pytest.fixture
def install(monkeypatch):
    """Simulates an environment with these distributions, given as names and versions."""

    def replace(versions):
        def distribution(name):
            if name not in versions:
                raise PackageNotFoundError(name)
            return SimpleNamespace(name=name, version=versions[name])

        monkeypatch.setattr(families, 'distribution', distribution)

    return replace


@pytest.fixture
def lose(monkeypatch):
    """Simulates an environment in which packages with these import names are missing."""
    find_spec = families.find_spec

    def replace(*names):
        monkeypatch.setattr(families, 'find_spec', lambda n: None if n in names else find_spec(n))

    return replace


def required(name):
    """The names of the distributions in a file of requirements."""
    lines = (REQUIREMENTS / name).read_text().splitlines()
    return {re.match(r'[\w-]+', line)[0] for line in lines if not line.startswith('#')}


@pytest.mark.parametrize(
    ('versions', 'package', 'expected'),
    [
        (UPSTREAM, 'mmcv', 'mmcv-lite 2.1.0'),
        ({'mmcv': '2.1.0'}, 'mmcv', 'mmcv 2.1.0'),
        (MAINTAINED, 'mmcv', 'onedl-mmcv 2.3.6'),
        (UPSTREAM, 'mmseg', 'not installed'),
        ({'mmsegmentation': '1.2.2'}, 'mmseg', 'mmsegmentation 1.2.2'),
        ({'timm': '1.0.31'}, 'timm', 'timm 1.0.31'),
        ({}, 'timm', 'not installed'),
    ],
)
def test_a_package_is_described_by_its_distribution(install, versions, package, expected):
    install(versions)
    assert families.describe(package) == expected


@pytest.mark.parametrize('versions', [UPSTREAM, MAINTAINED, {}], ids=['upstream', 'onedl', 'none'])
def test_one_family_is_no_reason_to_warn(install, versions):
    install(versions)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        families.warn_if_mixed()


def test_the_warning_about_two_families_lists_all_that_must_be_removed(install):
    install({**UPSTREAM, 'onedl-mmcv': '2.3.6'})
    with pytest.warns(UserWarning, match='onedl-mmcv 2.3.6; mmengine 0.10.7, mmcv-lite 2.1.0') as w:
        families.warn_if_mixed()
    uninstall, reinstall = str(w[0].message).splitlines()[1:]
    assert set(uninstall.split('-y ')[1].split()) == {*UPSTREAM, 'onedl-mmcv'}
    assert reinstall.strip().startswith('pip install "mmwf[maintained]"')


@pytest.mark.parametrize(
    ('versions', 'packages', 'command'),
    [
        ({}, ['mmengine', 'mmcv'], 'pip install "mmwf[maintained]"'),
        (UPSTREAM, ['mmseg'], 'pip install mmsegmentation'),
        (UPSTREAM, ['mmpose'], 'pip install mmpose'),
        ({'mmengine': '0.10.7'}, ['mmcv'], 'pip install "mmcv-lite<2.2"'),
        (MAINTAINED, ['mmseg'], 'pip install onedl-mmsegmentation'),
        (MAINTAINED, ['mmcv', 'mmdet'], 'pip install onedl-mmcv onedl-mmdetection'),
    ],
)
def test_what_is_missing_is_named_with_the_command_for_its_family(
    install, lose, versions, packages, command
):
    install(versions)
    lose(*packages)
    with pytest.raises(families.MissingPackageError, match=' and '.join(packages)) as error:
        families.require('mmengine', *packages)
    assert command in str(error.value)
    assert isinstance(error.value, UserError) and isinstance(error.value, ImportError)


def test_what_can_be_imported_is_not_missing(install):
    install({})  # such as a checkout on PYTHONPATH, which has no metadata
    families.require('mmengine', 'mmcv', 'mmdet', 'mmseg', 'mmpretrain')


def test_a_config_of_a_library_that_is_missing_says_how_to_install_it(lose):
    lose('mmseg')
    with pytest.raises(UserError, match=r'mmwf needs mmseg, .* pip install \S*mmsegmentation'):
        import_task_library(Config(dict(default_scope='mmseg')))


@pytest.mark.parametrize('extra', families.FAMILIES)
def test_the_extra_installs_one_distribution_for_each_package(extra):
    assert required(f'{extra}.txt') == {names[0] for names in families.FAMILIES[extra].values()}


def test_mmwf_itself_requires_no_openmmlab_package():
    known = {name for f in families.FAMILIES.values() for names in f.values() for name in names}
    assert not required('runtime.txt') & known


def test_importing_mmwf_beside_two_families_warns_once(tmp_path, run_python):
    mine = families.find_distribution('mmcv').name
    other = 'mmcv-lite' if mine.startswith('onedl-') else 'onedl-mmcv'
    folder = tmp_path / f'{other.replace("-", "_")}-2.0.0.dist-info'
    folder.mkdir()
    (folder / 'METADATA').write_text(f'Metadata-Version: 2.1\nName: {other}\nVersion: 2.0.0\n')
    result = run_python(
        f'import sys; sys.path.insert(0, {str(tmp_path)!r})\nimport mmwf, mmwf.models'
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr.count('Two families of OpenMMLab packages') == 1
    assert f'{other} 2.0.0' in result.stderr and mine in result.stderr


@pytest.mark.parametrize('package', ['mmengine', 'mmcv'])
def test_importing_mmwf_without_a_package_names_it_and_a_command(package, run_python):
    result = run_python(f'import sys; sys.modules[{package!r}] = None\nimport mmwf')
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert f'mmwf needs {package}, ' in last and 'pip install' in last


def test_the_check_takes_less_than_20_milliseconds(run_python):
    # CPU time, as in test_import.py.
    code = (
        'import time, mmwf.families as f\n'
        'start = time.process_time()\n'
        "f.require('mmengine', 'mmcv')\n"
        'f.warn_if_mixed()\n'
        'print(time.process_time() - start)'
    )
    assert any(float(run_python(code).stdout) < 0.02 for _ in range(3)), sys.path
