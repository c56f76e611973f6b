"""Python and its packages: versions, families, requirements, and whether they can be imported."""

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from mmwf import families
from mmwf.mmcv_ext import has_compiled_mmcv_ops

from .findings import Finding

#: Python versions that the tests run with.
PYTHON = ((3, 10), (3, 12))
#: Packages whose requirements are checked, beside those of the OpenMMLab families.
CHECKED = ('mmwf', 'torch', 'torchvision', 'timm', 'diffusers')
#: Versions that upstream's packages accept, which they check on import only: mmdet 3.3.0,
#: mmsegmentation 1.2.2 and mmpretrain 1.2.0, each in its __init__.py.
CHECKED_ON_IMPORT = {
    'mmdet': ('mmcv>=2.0.0rc4,<2.2', 'mmengine>=0.7.1,<1'),
    'mmsegmentation': ('mmcv>=2.0.0rc4,<2.2', 'mmengine>=0.5,<1'),
    'mmpretrain': ('mmcv>=2.0,<2.4', 'mmengine>=0.8.3,<1'),
}
#: Distributions that provide the same modules as others.
SAME = {
    'opencv-python': ('opencv-python-headless', 'opencv-contrib-python'),
    'mmcv': ('mmcv-lite', 'mmcv-full'),
    'mmengine': ('mmengine-lite',),
}
#: What is imported in a process of its own, in this order.
IMPORTS = (
    'torch', 'torchvision', 'cv2', 'timm', 'mmwf.models', 'mmcv.ops', 'mmpretrain.models',
    'mmdet.models', 'mmseg.models',
)  # fmt: skip
CRASHED = 'crashed'
#: Prints a line before and after each import, so that a crash can be told from success.
PROBE = f"""
import contextlib, importlib, io, json, sys, warnings
warnings.simplefilter('ignore')
out = sys.stdout
for name in sys.argv[1:]:
    print(json.dumps([name, {CRASHED!r}]), file=out, flush=True)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            if name.startswith('mm'):
                import mmwf
            importlib.import_module(name)
        error = ''
    except BaseException as caught:
        error = type(caught).__name__ + ': ' + str(caught)
    print(json.dumps([name, error]), file=out, flush=True)
"""


def installed_version(name: str) -> str | None:
    """Returns the version of a distribution, or of one that provides the same modules."""
    for candidate in (name, *SAME.get(name, ())):
        try:
            return metadata.version(candidate)
        except metadata.PackageNotFoundError:
            continue
    return None


def required_by(name: str) -> list[Requirement]:
    """Returns what a distribution requires here, without its extras; empty if not installed."""
    try:
        lines = metadata.requires(name) or ()
    except metadata.PackageNotFoundError:
        return []
    found = []
    for line in (*lines, *CHECKED_ON_IMPORT.get(name, ())):
        try:
            requirement = Requirement(line)
        except InvalidRequirement:  # of old packages
            continue
        if requirement.marker is None or requirement.marker.evaluate({'extra': ''}):
            found.append(requirement)
    return found


def check_python() -> Iterator[Finding]:
    """Checks the version of Python."""
    version = '.'.join(map(str, sys.version_info[:3]))
    low, high = ('.'.join(map(str, bound)) for bound in PYTHON)
    if sys.version_info[:2] < PYTHON[0]:
        fix = f'create an environment with Python {high}: python{high} -m venv .venv'
        yield Finding('broken', 'Python', f'{version}; mmwf needs {low} or newer', fix)
    elif sys.version_info[:2] > PYTHON[1]:
        yield Finding('warning', 'Python', f'{version}; tested with {low} to {high}')
    else:
        yield Finding('ok', 'Python', version)


def check_families() -> Iterator[Finding]:
    """Checks that the OpenMMLab packages are of one family, and all there."""
    found = {extra: names for extra, names in families.installed_families().items() if names}
    if len(found) > 1:
        names = [d.name for family in found.values() for d in family]
        yield Finding(
            'broken',
            'OpenMMLab',
            f'two families are installed, of which one has overwritten the other: '
            f'{", ".join(names)}',
            f'pip uninstall -y {" ".join(names)} && pip install "mmwf[maintained]"  '
            '# or "mmwf[upstream]"',
        )
    elif found:
        yield Finding('ok', 'OpenMMLab', f'the family "{next(iter(found))}"')
    for package in families.MAINTAINED:
        described = families.describe(package)
        if described != 'not installed':
            yield Finding('ok', package, described)
            continue
        try:
            families.require(package)
            yield Finding('note', package, 'can be imported, without metadata of a version')
        except families.MissingPackageError as error:
            state = 'broken' if package in ('mmengine', 'mmcv') else 'warning'
            yield Finding(state, package, described, str(error).partition('Run: ')[2])


def _fix(requirement: Requirement) -> str:
    name = requirement.name
    if name == 'mmcv' and installed_version('mmcv-lite'):
        name = 'mmcv-lite'
    return f'pip install "{name}{requirement.specifier}"'


def _torchvision_fix() -> str:
    """torchvision 0.(N + 15) belongs to torch 2.N."""
    torch = Version(installed_version('torch'))
    return f'pip install "torchvision==0.{torch.minor + 15}.*" "torch=={torch.public}"'


def check_requirements() -> Iterator[Finding]:
    """Checks that the installed packages are in the ranges that others of them require."""
    openmmlab = [d.name for found in families.installed_families().values() for d in found]
    is_fine = True
    for package in dict.fromkeys([*CHECKED, *map(canonicalize_name, openmmlab)]):
        for requirement in required_by(package):
            name, version = canonicalize_name(requirement.name), installed_version(requirement.name)
            if version and requirement.specifier.contains(version, prereleases=True):
                continue
            is_fine = False
            got = f'{name} is {version or "not installed"}'
            fix = _fix(requirement)
            if (package, name) == ('torchvision', 'torch') and version:
                fix = _torchvision_fix()
            # Packages that others require are often left out, and not missed.
            state = 'broken' if version or package == 'mmwf' else 'warning'
            needs = f'{package} {installed_version(package)} requires {name}{requirement.specifier}'
            yield Finding(state, name, f'{needs}, but {got}', fix)
    if is_fine:
        yield Finding('ok', 'versions', 'the installed packages fit together')


def _import_fix(module: str, error: str) -> str:
    package = module.partition('.')[0]
    if 'libGL' in error or package == 'cv2':
        return 'pip install --force-reinstall --no-deps opencv-python-headless'
    if module == 'mmcv.ops' and has_compiled_mmcv_ops():
        found = families.find_distribution('mmcv')
        name = found.name if found else 'onedl-mmcv'
        return (
            f"remove mmcv's compiled file (mmwf then provides the operations): pip uninstall -y "
            f'{name} && pip install --no-deps {name.replace("mmcv-full", "mmcv")}, or compile mmcv '
            'for this version of torch'
        )
    found = families.find_distribution(package)
    wanted = f'{found.name}=={found.version}' if found else package
    return f'pip install --force-reinstall --no-deps {wanted}'


def check_imports(modules: tuple[str, ...] = IMPORTS, timeout: float = 300) -> Iterator[Finding]:
    """Imports packages in a process of its own, which may crash.

    Args:
        modules: Names of modules; those whose package is not installed are left out.
        timeout: Seconds that all imports may take.
    """
    modules = [m for m in modules if families.find_spec(m.partition('.')[0])]
    errors = {}
    while modules:
        command = [sys.executable, '-c', PROBE, *modules]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
            printed, code = done.stdout, done.returncode
        except subprocess.TimeoutExpired as error:
            printed, code = (error.stdout or b'').decode(), f'none after {timeout} s'
        lines = [line for line in printed.splitlines() if line.startswith('["')]
        found = dict(map(json.loads, lines)) or {modules[0]: CRASHED}
        for module, error in found.items():
            errors[module] = (
                f'the process ends with exit code {code}' if error == CRASHED else error
            )
        modules = modules[len(found) :]  # those after a crash
    for module, error in errors.items():
        if error:
            detail = f'cannot be imported: {" ".join(error.split())[:300]}'
            yield Finding('broken', module, detail, _import_fix(module, error))
        elif module == 'mmcv.ops':
            what = "mmwf's stand-in, of torchvision and PyTorch"
            if has_compiled_mmcv_ops():
                what = "mmcv's own, compiled"
            yield Finding('ok', module, what)


def describe_packages() -> dict[str, str]:
    """Returns name and version of what a bug report needs."""
    names = ('torch', 'torchvision', 'numpy', 'timm', 'opencv-python', 'triton')
    versions = {name: installed_version(name) or 'not installed' for name in names}
    return {**{p: families.describe(p) for p in families.MAINTAINED}, **versions}
