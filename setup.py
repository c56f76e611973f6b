"""Installs the ``mmwf`` package; requirements/constraints*.txt pin the tested versions."""

import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent


def read_requirements(name):
    lines = (ROOT / 'requirements' / name).read_text().splitlines()
    return [line for line in lines if line and not line.startswith(('#', '-'))]


class BuildWithConfigs(build_py):
    """Puts ``configs/`` into the wheel as ``mmwf/.mim/configs``, where OpenMMLab looks for it."""

    def run(self):
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib) / 'mmwf' / '.mim' / 'configs'
            shutil.copytree(ROOT / 'configs', target, dirs_exist_ok=True)


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
    cmdclass={'build_py': BuildWithConfigs},
    entry_points={'console_scripts': ['mmwf = mmwf.commands:main']},
    install_requires=read_requirements('runtime.txt'),
    # No OpenMMLab package is required, so that pip touches none of those that are installed.
    extras_require={
        name: read_requirements(f'{name}.txt')
        for name in ('maintained', 'upstream', 'export', 'tensorboard', 'tests')
    },
)
