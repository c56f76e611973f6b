"""The wheel: what ``pip install`` gives without a checkout."""

import email
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CONFIG = 'configs/classification/weightformer-tiny-p16_8xb256_in1k.py'


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    """A wheel, built from a copy of the checkout, since the build writes into it."""
    source, out = tmp_path_factory.mktemp('source'), tmp_path_factory.mktemp('wheel')
    for name in ('mmwf', 'configs', 'requirements'):
        ignore = shutil.ignore_patterns('__pycache__')
        shutil.copytree(ROOT / name, source / name, ignore=ignore)
    for name in ('setup.py', 'pyproject.toml', 'README.md', 'LICENSE'):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, '-m', 'pip', 'wheel', '--no-deps', '--no-build-isolation']
    done = subprocess.run(
        [*command, '-w', str(out), str(source)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-4000:]
    (path,) = out.glob('mmwf-*.whl')
    return path


def test_the_wheel_has_all_modules_all_configs_and_the_console_script(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (entry_points,) = (name for name in names if name.endswith('entry_points.txt'))
        assert 'mmwf = mmwf.commands:main' in archive.read(entry_points).decode()
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / 'mmwf').rglob('*.py')}
    configs = {f'mmwf/.mim/{path.relative_to(ROOT)}' for path in (ROOT / 'configs').rglob('*.py')}
    assert modules | configs <= names
    assert not any(name.startswith(('tests/', 'tools/', 'configs/')) for name in names)


def test_the_wheel_requires_openmmlab_packages_only_as_extras(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (path,) = (name for name in archive.namelist() if name.endswith('METADATA'))
        metadata = email.message_from_bytes(archive.read(path))
    assert {'maintained', 'upstream', 'tests'} <= set(metadata.get_all('Provides-Extra'))
    names = {}
    for line in metadata.get_all('Requires-Dist'):
        requirement, _, extra = line.partition(' extra == ')
        names.setdefault(extra.strip('"\''), []).append(re.match(r'[\w-]+', requirement)[0])
    assert {'torch', 'numpy', 'timm'} <= set(names[''])
    assert not [name for name in names[''] if name.startswith(('mm', 'onedl'))]
    assert len(names['maintained']) == len(names['upstream']) == 5
    assert all(name.startswith('onedl-mm') for name in names['maintained'])
    assert all(name.startswith('mm') for name in names['upstream'])


def test_the_commands_of_the_wheel_find_its_configs(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    code = (
        f'import mmwf.engine.config as c; print(c.__file__, c.load_config({CONFIG!r}).model.type)'
    )
    done = subprocess.run(
        [sys.executable, '-c', code], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    module, type_ = done.stdout.split()
    assert Path(module).is_relative_to(tmp_path), done.stderr
    assert type_ == 'ImageClassifier'
