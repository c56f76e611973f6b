"""A diagnosis of an environment: what is installed, what fits together, how to fix the rest."""

import platform
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from mmwf.version import __version__

from . import data, machine, packages
from .findings import STATES, Finding, format_block, format_findings

__all__ = ['STATES', 'Finding', 'describe', 'diagnose', 'format_block', 'format_findings']


def diagnose(work_dir: str | Path = 'work_dirs', with_data: bool = True) -> list[Finding]:
    """Checks the environment of this process.

    Args:
        work_dir: Folder that runs write to.
        with_data: Whether to check the data at their default places.

    Returns:
        The findings; an error inside a check is a finding, too.
    """
    checks: list[Callable[[], Iterator[Finding]]] = [
        packages.check_python,
        packages.check_families,
        packages.check_requirements,
        packages.check_imports,
        machine.check_gpus,
        machine.check_threads,
        machine.check_memory,
        partial(machine.check_folders, Path(work_dir)),
    ]
    if with_data:
        checks.append(data.check_data)
    findings = []
    for check in checks:
        try:
            findings.extend(check())
        except Exception as error:  # whatever is broken, the other checks go on
            name = getattr(check, 'func', check).__name__.removeprefix('check_')
            findings.append(
                Finding('broken', name, f'cannot be checked: {type(error).__name__}: {error}')
            )
    return findings


def describe() -> dict[str, str]:
    """Describes the environment, for a bug report."""
    gpus = '; '.join(machine.list_gpus()) or 'none'
    return dict(
        mmwf=__version__,
        python=f'{platform.python_version()}, {platform.platform()}',
        **packages.describe_packages(),
        GPUs=gpus,
        cores=str(machine.count_cores()),
    )
