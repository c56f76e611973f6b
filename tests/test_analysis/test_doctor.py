"""The doctor: an environment without faults, and one fault after the other."""

import json
import os
import shutil
import subprocess
import sys
from collections import namedtuple
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from toy import write_coco

from mmwf import families
from mmwf.analysis import doctor
from mmwf.analysis.doctor import data, machine, packages
from mmwf.commands import doctor as tool
from mmwf.errors import UserError

#: Packages that fit together, as upstream's and as the maintained line's.
UPSTREAM = {
    'mmwf': '0.1.0', 'torch': '2.6.0', 'torchvision': '0.21.0', 'numpy': '1.26.4',
    'mmengine': '0.10.7', 'mmcv-lite': '2.1.0', 'mmdet': '3.3.0', 'mmsegmentation': '1.2.2',
    'mmpretrain': '1.2.0',
}  # fmt: skip
MAINTAINED = {
    'mmwf': '0.1.0', 'torch': '2.11.0', 'torchvision': '0.26.0', 'numpy': '2.2.6',
    'onedl-mmengine': '0.10.12', 'onedl-mmcv': '2.3.6', 'onedl-mmdetection': '3.5.1',
    'onedl-mmsegmentation': '1.4.2', 'onedl-mmpretrain': '1.3.6',
}  # fmt: skip
#: What they require, beside what they check on import.
REQUIRED = {
    'mmwf': ['torch>=2.6', 'numpy>=1.24'],
    'onedl-mmsegmentation': ['numpy>2', 'ftfy; extra == "multimodal"'],
}
USAGE = namedtuple('USAGE', 'total used free')


@pytest.fixture
def install(monkeypatch):
    """Simulates an environment with these distributions, given as names and versions."""

    def replace(versions):
        def version(name):
            if name not in versions:
                raise metadata.PackageNotFoundError(name)
            return versions[name]

        def requires(name):
            version(name)
            torch_version = {'0.26.0': '2.11.0', '0.21.0': '2.6.0'}.get(versions['torchvision'])
            return {**REQUIRED, 'torchvision': [f'torch=={torch_version}']}.get(name)

        def distribution(name):
            return SimpleNamespace(name=name, version=version(name))

        monkeypatch.setattr(packages.metadata, 'version', version)
        monkeypatch.setattr(packages.metadata, 'requires', requires)
        monkeypatch.setattr(families, 'distribution', distribution)

    return replace


def faults(findings):
    """The findings that are broken or a warning, by subject."""
    return {f.subject: f for f in findings if f.state in ('warning', 'broken')}


@pytest.mark.parametrize('versions', [UPSTREAM, MAINTAINED], ids=['upstream', 'maintained'])
def test_packages_that_fit_together_are_no_fault(install, versions):
    install(versions)
    findings = [*packages.check_families(), *packages.check_requirements()]
    assert not faults(findings)
    assert findings[-1].detail == 'the installed packages fit together'


def test_two_families_are_found(install):
    install({**UPSTREAM, 'onedl-mmcv': '2.3.6'})
    fault = faults(packages.check_families())['OpenMMLab']
    assert fault.state == 'broken' and 'onedl-mmcv' in fault.detail
    remove, reinstall = fault.fix.split(' && ')
    assert {'onedl-mmcv', 'mmcv-lite', 'mmdet'} <= set(remove.split())
    assert reinstall.startswith('pip install "mmwf[maintained]"')


def test_a_missing_library_is_found(install, monkeypatch):
    install({name: version for name, version in MAINTAINED.items() if 'mmseg' not in name})
    find_spec = families.find_spec
    monkeypatch.setattr(families, 'find_spec', lambda n: None if n == 'mmseg' else find_spec(n))
    fault = faults(packages.check_families())['mmseg']
    assert (fault.state, fault.fix) == ('warning', 'pip install onedl-mmsegmentation')


@pytest.mark.parametrize(
    ('versions', 'name', 'detail', 'fix'),
    [
        (
            {**MAINTAINED, 'torch': '2.10.0'},
            'torch',
            'torchvision 0.26.0 requires torch==2.11.0, but torch is 2.10.0',
            'pip install "torchvision==0.25.*" "torch==2.10.0"',
        ),
        (
            {**UPSTREAM, 'mmcv-lite': '2.2.0'},
            'mmcv',
            'mmdet 3.3.0 requires mmcv<2.2,>=2.0.0rc4, but mmcv is 2.2.0',
            'pip install "mmcv-lite<2.2,>=2.0.0rc4"',
        ),
        (
            {**UPSTREAM, 'mmengine': '0.5.0'},
            'mmengine',
            'requires mmengine<1,>=0.',
            'pip install "mmengine<1,>=0.',
        ),
        (
            {**MAINTAINED, 'numpy': '1.26.4'},
            'numpy',
            'onedl-mmsegmentation 1.4.2 requires numpy>2, but numpy is 1.26.4',
            'pip install "numpy>2"',
        ),
        (
            {**MAINTAINED, 'torch': '2.5.1', 'torchvision': '0.20.1'},
            'torch',
            'mmwf 0.1.0 requires torch>=2.6, but torch is 2.5.1',
            'pip install "torch>=2.6"',
        ),
    ],
    ids=['torchvision', 'mmcv', 'mmengine', 'numpy', 'torch'],
)
def test_a_version_that_does_not_fit_is_found(install, monkeypatch, versions, name, detail, fix):
    install(versions)
    found = [f for f in packages.check_requirements() if f.subject == name and detail in f.detail]
    assert found[0].state == 'broken' and found[0].fix.startswith(fix)


@pytest.mark.parametrize(
    ('version', 'state'), [((3, 9, 1), 'broken'), ((3, 11, 2), 'ok'), ((3, 14, 0), 'warning')]
)
def test_the_version_of_python_is_checked(monkeypatch, version, state):
    monkeypatch.setattr(packages, 'sys', SimpleNamespace(version_info=version))
    (finding,) = packages.check_python()
    assert finding.state == state and '.'.join(map(str, version)) in finding.detail


@pytest.fixture
def add_package(tmp_path, monkeypatch):
    """Adds a package before all others for processes that are started."""

    def add(name, code):
        (tmp_path / name).mkdir()
        (tmp_path / name / '__init__.py').write_text(code)
        path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get('PYTHONPATH')])])
        monkeypatch.setenv('PYTHONPATH', path)

    return add


def test_an_opencv_that_lacks_a_library_is_found(add_package):
    error = 'libGL.so.1: cannot open shared object file'
    add_package('cv2', f'raise ImportError({error!r})')
    (fault,) = packages.check_imports(('cv2',))
    assert fault.state == 'broken' and error in fault.detail
    assert fault.fix == 'pip install --force-reinstall --no-deps opencv-python-headless'


def test_a_package_that_crashes_hides_no_other(add_package):
    add_package('timm', 'import os; os._exit(7)')
    add_package('cv2', 'print("[noise]"); raise SystemError("two\\nlines")')
    found = faults(packages.check_imports(('yaml', 'timm', 'cv2')))
    assert set(found) == {'timm', 'cv2'}
    assert 'the process ends with exit code 7' in found['timm'].detail
    assert found['timm'].fix.startswith('pip install --force-reinstall --no-deps timm==')
    assert 'SystemError: two lines' in found['cv2'].detail


def test_compiled_operations_that_cannot_be_loaded_are_found(monkeypatch):
    results = '["mmcv.ops", "crashed"]\n["mmcv.ops", "ImportError: undefined symbol: _ZN3c10"]\n'
    done = SimpleNamespace(stdout=results, returncode=0)
    monkeypatch.setattr(packages.subprocess, 'run', lambda *args, **kwargs: done)
    monkeypatch.setattr(packages, 'has_compiled_mmcv_ops', lambda: True)
    (fault,) = packages.check_imports(('mmcv.ops',))
    assert 'undefined symbol' in fault.detail
    assert "remove mmcv's compiled file" in fault.fix and 'pip uninstall -y' in fault.fix


GPU = 'NVIDIA A100-SXM4-40GB, 40960 MiB, 535.104.05'


@pytest.mark.parametrize(
    ('built_for', 'visible', 'state', 'detail', 'fix'),
    [
        (None, None, 'broken', 'is built without CUDA', 'install their CUDA builds'),
        ('13.0', None, 'broken', f'(CUDA 13.0) cannot use the GPU {GPU}', 'update the driver'),
        ('13.0', '-1', 'warning', 'CUDA_VISIBLE_DEVICES=-1 hides 1', 'unset CUDA_VISIBLE_DEVICES'),
        ('13.0', '1', 'broken', 'cannot use the GPU', 'update the driver'),
    ],
    ids=['cpu-build', 'driver', 'hidden', 'other'],
)
def test_a_gpu_that_pytorch_does_not_use_is_found(
    monkeypatch, built_for, visible, state, detail, fix
):
    monkeypatch.setattr(machine, 'list_gpus', lambda: [GPU])
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(torch.version, 'cuda', built_for)
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    if visible:
        monkeypatch.setenv('CUDA_VISIBLE_DEVICES', visible)
    (finding,) = machine.check_gpus()
    assert finding.state == state and detail in finding.detail and fix in finding.fix


def test_a_machine_without_a_gpu_has_no_fault(monkeypatch):
    monkeypatch.setattr(machine, 'list_gpus', lambda: [])
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    (finding,) = machine.check_gpus()
    assert finding.state == 'note' and 'everything runs on the CPU' in finding.detail


@pytest.mark.parametrize(
    ('wanted', 'state'),
    [
        ('4', 'ok'),
        ('1', 'ok'),
        ('2,1', 'ok'),
        ('16', 'warning'),
        ('0', 'broken'),
        ('all', 'broken'),
    ],
)
def test_the_number_of_threads_is_checked(monkeypatch, wanted, state):
    monkeypatch.setattr(machine, 'count_cores', lambda: 4)
    monkeypatch.setenv('OMP_NUM_THREADS', wanted)
    (finding,) = machine.check_threads()
    assert finding.state == state and f'OMP_NUM_THREADS={wanted}' in finding.detail
    assert finding.fix == ('' if state == 'ok' else finding.fix)
    assert state == 'ok' or finding.fix.startswith('export OMP_NUM_THREADS=4')


def test_little_memory_is_found(monkeypatch):
    monkeypatch.setattr(machine, 'available_memory', lambda: 10**9)
    monkeypatch.setattr(machine.shutil, 'disk_usage', lambda path: USAGE(64 * 2**20, 0, 0))
    found = faults(machine.check_memory())
    assert set(found) == {'memory', '/dev/shm'}
    assert '1.0 GB available' in found['memory'].detail
    assert '--shm-size' in found['/dev/shm'].fix


def test_a_work_dir_that_cannot_be_written_is_found(tmp_path):
    (tmp_path / 'work').write_text('a file, not a folder')
    finding, *_ = machine.check_folders(tmp_path / 'work/run')
    assert (finding.state, finding.subject) == ('broken', 'work dir')
    assert 'cannot write' in finding.detail and '--work-dir' in finding.fix


@pytest.mark.parametrize(
    ('free', 'state'), [(5 * 10**8, 'broken'), (5 * 10**9, 'warning'), (10**11, 'ok')]
)
def test_a_full_disk_is_found(monkeypatch, tmp_path, free, state):
    monkeypatch.setattr(machine.shutil, 'disk_usage', lambda path: USAGE(10**12, 0, free))
    finding = machine.check_folder('work dir', tmp_path / 'new', 'choose another')
    assert finding.state == state and ('free some space' in finding.fix) == (state != 'ok')


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty current folder with a folder ``data``."""
    monkeypatch.chdir(tmp_path)
    Path('data').mkdir()


def test_data_that_are_not_there_are_no_fault(project):
    assert [f.state for f in data.check_data()] == ['note'] * 3


def test_a_link_to_data_that_are_gone_is_found(project):
    Path('data/imagenet').symlink_to('/gone/imagenet')
    finding = data.check_data_folder('data/imagenet')
    assert (finding.state, finding.subject) == ('broken', 'data/imagenet')
    assert '/gone/imagenet' in finding.detail and finding.fix.startswith('ln -sfn ')


def test_incomplete_data_are_found(project):
    Path('data/ade/ADEChallengeData2016/images').mkdir(parents=True)
    finding = data.check_data_folder('data/ade')
    assert finding.state == 'broken' and 'images/training, which does not exist' in finding.detail
    assert 'ADEChallengeData2016.zip' in finding.fix  # where to get them


@pytest.mark.filterwarnings('ignore:faster_coco_eval')
def test_damaged_annotations_are_found(project):
    source = write_coco(Path('source'))
    Path('data/coco/annotations').mkdir(parents=True)
    for split in ('train', 'val'):
        shutil.copytree(source / split, f'data/coco/{split}2017')
        name = f'annotations/instances_{split}'
        content = json.loads((source / f'{name}.json').read_text())
        del content['annotations'][0]['bbox']
        Path(f'data/coco/{name}2017.json').write_text(json.dumps(content))
    finding = data.check_data_folder('data/coco')
    assert finding.state == 'broken' and 'bbox' in finding.detail


def test_a_check_that_fails_itself_does_not_stop_the_others(monkeypatch):
    def check_python():
        raise OSError('no such thing')

    monkeypatch.setattr(packages, 'check_python', check_python)
    monkeypatch.setattr(packages, 'check_imports', lambda: iter(()))
    findings = doctor.diagnose(with_data=False)
    assert findings[0].detail == 'cannot be checked: OSError: no such thing'
    assert any(finding.subject == 'work dir' for finding in findings)


@pytest.fixture
def found(monkeypatch):
    """Replaces the diagnosis."""

    def replace(*findings):
        monkeypatch.setattr(tool, 'diagnose', lambda *args, **kwargs: list(findings))

    return replace


FINE = doctor.Finding('ok', 'Python', '3.11.7')
FAULT = doctor.Finding('broken', 'torchvision', 'is too old', 'pip install torchvision')


def test_the_command_prints_each_fault_with_its_fix_and_fails(found, capsys):
    found(FINE, FAULT)
    with pytest.raises(UserError, match='^1 broken: torchvision.$'):
        tool.main([])
    printed = capsys.readouterr().out
    assert 'ok       Python       3.11.7\nBROKEN   torchvision  is too old\n' in printed
    assert 'to mend it: pip install torchvision\n' in printed
    block = printed.split('```text\n')[1].split('```')[0]
    assert 'broken: torchvision: is too old' in block and f'torch: {torch.__version__[:3]}' in block
    assert str(Path.home()) not in block


def test_the_command_prints_json(found, capsys):
    found(FINE, FAULT)
    with pytest.raises(UserError):
        tool.main(['--json'])
    content = json.loads(capsys.readouterr().out)
    assert content['ok'] is False and content['findings'][1]['fix'] == 'pip install torchvision'
    found(FINE)
    tool.main(['--json'])
    content = json.loads(capsys.readouterr().out)
    assert content['ok'] is True and content['environment']['mmwf'] == doctor.describe()['mmwf']


@pytest.mark.slow
def test_this_environment_can_import_everything(tmp_path):
    command = [sys.executable, '-m', 'mmwf', 'doctor', '--no-data', '--json']
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    content = json.loads(done.stdout)
    found = {f['subject']: f for f in content['findings']}
    assert not [name for name in packages.IMPORTS if found.get(name, {}).get('state') == 'broken']
    assert found['mmcv.ops']['state'] == found['OpenMMLab']['state'] == 'ok'
    assert done.returncode == (0 if content['ok'] else 1), done.stderr
