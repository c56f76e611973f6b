"""The wheel: what ``pip install`` gives without a checkout."""

import email
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CONFIG = 'configs/classification/weightformer-tiny-p16_8xb256_in1k.py'
DIGITS = 'weightformer-w64d8-p4_1xb64-20e_digits-32px'


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
    extras = {'maintained', 'upstream', 'tests', 'tensorboard'}
    assert extras <= set(metadata.get_all('Provides-Extra'))
    names = {}
    for line in metadata.get_all('Requires-Dist'):
        requirement, _, extra = line.partition(' extra == ')
        names.setdefault(extra.strip('"\''), []).append(re.match(r'[\w-]+', requirement)[0])
    assert {'torch', 'numpy', 'timm'} <= set(names[''])
    assert not [name for name in names[''] if name.startswith(('mm', 'onedl'))]
    assert names['tensorboard'] == ['tensorboard']
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


class Environment:
    """A new virtual environment with the wheel, used in a folder that is not the project's.

    It shares all other packages with the one that runs the tests, except for mmwf.
    """

    def __init__(self, root, wheel):
        self.folder = root / 'work'
        self.folder.mkdir()
        self.bin = root / 'env/bin'
        self.env = {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'}
        self.run(sys.executable, '-m', 'venv', '--without-pip', root / 'env')
        install = ('install', '--quiet', '--no-deps', '--no-index', wheel)
        self.run(sys.executable, '-m', 'pip', '--python', self.bin / 'python', *install)
        (site_packages,) = (root / 'env/lib').glob('python*/site-packages')
        (site_packages / 'shared.pth').write_text(sysconfig.get_path('purelib'))

    def run(self, *command):
        """Runs a command; returns its stdout and stderr."""
        done = subprocess.run(
            [str(part) for part in command],
            cwd=self.folder,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout[-4000:]
        return done.stdout

    def python(self, code):
        return self.run(self.bin / 'python', '-c', code)

    def mmwf(self, *args):
        return self.run(self.bin / 'mmwf', *args)


@pytest.fixture(scope='module')
def installed(wheel, tmp_path_factory):
    return Environment(tmp_path_factory.mktemp('installed'), wheel)


@pytest.mark.slow
def test_the_installed_wheel_is_what_python_imports(installed):
    file, version = installed.python('import mmwf; print(mmwf.__file__, mmwf.__version__)').split()
    assert Path(file).is_relative_to(installed.bin.parent)
    assert (
        version
        == installed.python(
            "from importlib.metadata import version; print(version('mmwf'))"
        ).strip()
    )


@pytest.mark.slow
def test_the_installed_wheel_trains_and_tests_by_name_and_gives_the_model(installed):
    assert 'data/digits/train: 1437 images' in installed.mmwf('digits')
    few = 'dataset.indices=128'
    log = installed.mmwf('train', DIGITS, '--cfg-options', 'train_cfg.max_epochs=1',
                         f'train_dataloader.{few}', f'val_dataloader.{few}')  # fmt: skip
    assert 'Epoch(train) [1][2/2]' in log
    checkpoint = f'work_dirs/{DIGITS}/epoch_1.pth'
    installed.mmwf('test', f'mmwf::quickstart/{DIGITS}.py', checkpoint, '--out', 'metrics.json')
    accuracy = json.loads((installed.folder / 'metrics.json').read_text())['accuracy/top1']
    assert 0 < accuracy < 100  # of all ten digits
    installed.python(f"""
import mmwf, torch
assert {DIGITS!r} in mmwf.list_models('weightformer-*digits*')
model = mmwf.get_model({DIGITS!r}, pretrained={checkpoint!r}, device='cpu')
assert model.dataset_meta['classes'] == tuple('0123456789')
assert model(torch.randn(2, 3, 32, 32)).shape == (2, 10)
""")


@pytest.mark.slow
def test_a_config_outside_of_the_project_inherits_from_one_in_the_wheel(installed):
    text = f"_base_ = 'mmwf::quickstart/{DIGITS}.py'\nmodel = dict(backbone=dict(patch_size=8))\n"
    (installed.folder / 'mine.py').write_text(text)
    printed = installed.mmwf('get-flops', 'mine.py', '--shape', 32, 32)
    assert printed != installed.mmwf('get-flops', DIGITS, '--shape', 32, 32)
    assert 'mine.py' in printed


@pytest.mark.slow
def test_every_config_in_the_wheel_is_read_from_another_folder(installed):
    printed = installed.python("""
import mmwf
from mmwf.engine.config import load_config
for name in mmwf.list_models():
    cfg = load_config(name)
    assert cfg.model.type
    print(cfg.filename)
""")
    files = printed.split()
    assert len(files) > 50
    assert all('/site-packages/mmwf/.mim/configs/' in file for file in files)
