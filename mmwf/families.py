"""The two families of OpenMMLab packages: upstream's, and the maintained line ``onedl-*``.

Both have the same import names. So an environment can hold one family only: installing a package of
the other one overwrites files of the first.
"""

import contextlib
import warnings
from collections.abc import Iterable
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from importlib.util import find_spec

from .errors import UserError

#: Import name: upstream's distributions that provide it, first the one to install.
UPSTREAM = {
    'mmengine': ('mmengine', 'mmengine-lite'),
    'mmcv': ('mmcv-lite', 'mmcv', 'mmcv-full'),
    'mmdet': ('mmdet',),
    'mmseg': ('mmsegmentation',),
    'mmpretrain': ('mmpretrain',),
}
#: The same of the maintained line.
MAINTAINED = {
    'mmengine': ('onedl-mmengine',),
    'mmcv': ('onedl-mmcv',),
    'mmdet': ('onedl-mmdetection',),
    'mmseg': ('onedl-mmsegmentation',),
    'mmpretrain': ('onedl-mmpretrain',),
}
#: The extras of mmwf that install the families.
FAMILIES = {'maintained': MAINTAINED, 'upstream': UPSTREAM}


class MissingPackageError(UserError, ImportError):
    """An OpenMMLab package is not installed."""


def _installed(names: Iterable[str]) -> list[Distribution]:
    """Finds those of these distributions that are installed, without reading their metadata."""
    found = []
    for name in names:
        with contextlib.suppress(PackageNotFoundError):
            found.append(distribution(name))
    return found


def installed_families() -> dict[str, list[Distribution]]:
    """Finds the installed distributions of each family."""
    return {
        extra: _installed(name for names in family.values() for name in names)
        for extra, family in FAMILIES.items()
    }


def find_distribution(package: str) -> Distribution | None:
    """Finds the distribution that provides a package.

    Args:
        package: Import name, such as ``'mmseg'``, or the name of any other distribution.
    """
    names = (*MAINTAINED.get(package, ()), *UPSTREAM.get(package, (package,)))
    return next(iter(_installed(names)), None)


def describe(package: str) -> str:
    """Returns name and version of the distribution that provides a package."""
    found = find_distribution(package)
    return f'{found.name} {found.version}' if found else 'not installed'


def require(*packages: str) -> None:
    """Checks that OpenMMLab packages can be imported.

    Args:
        packages: Import names.

    Raises:
        MissingPackageError: If one cannot, with the command that installs it.
    """
    missing = [name for name in packages if find_spec(name) is None]
    if not missing:
        return
    # In the family that is there; without one, either.
    extras = [extra for extra, found in installed_families().items() if found]
    if extras:
        names = ' '.join(FAMILIES[extras[0]].get(name, (name,))[0] for name in missing)
        # mmdet 3.3.0 and mmseg 1.2.2, upstream's newest, refuse mmcv 2.2.
        how = 'Run: pip install ' + names.replace('mmcv-lite', '"mmcv-lite<2.2"')
    else:
        how = (
            'Run: pip install "mmwf[maintained]" (the maintained line of OpenMMLab packages, '
            'onedl-*), or pip install "mmwf[upstream]"; README.md says which.'
        )
    raise MissingPackageError(f'mmwf needs {" and ".join(missing)}, not installed here. {how}')


def warn_if_mixed() -> None:
    """Warns if both families are installed, with the commands that fix it."""
    found = installed_families()
    if not all(found.values()):
        return
    lists = (', '.join(f'{d.name} {d.version}' for d in family) for family in found.values())
    names = ' '.join(d.name for family in found.values() for d in family)
    warnings.warn(
        f'Two families of OpenMMLab packages are installed: {"; ".join(lists)}. They have the same '
        'import names, so files of one have been overwritten by the other. To mend it:\n'
        f'    pip uninstall -y {names}\n'
        '    pip install "mmwf[maintained]"    # or "mmwf[upstream]"',
        stacklevel=3,
    )
