"""Installs the ``mmwf`` package; the tested versions are pinned in requirements/constraints.txt."""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent


def read_requirements(name):
    lines = (ROOT / 'requirements' / name).read_text().splitlines()
    return [line for line in lines if line and not line.startswith(('#', '-'))]


version = {}
exec((ROOT / 'mmwf' / 'version.py').read_text(), version)

setup(
    name='mmwf',
    version=version['__version__'],
    description='WeightFormer for OpenMMLab: vision backbones with predicted weights',
    long_description=(ROOT / 'README.md').read_text(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.10',
    packages=find_packages(include=['mmwf', 'mmwf.*']),
    install_requires=read_requirements('runtime.txt'),
    extras_require={'tests': read_requirements('tests.txt')},
)
