"""One line about what is wrong with a config, for an error while something was built from it."""

import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from mmengine.hooks import CheckpointHook
from mmengine.registry import Registry, build_from_cfg, build_scheduler_from_cfg
from mmengine.runner import Runner

from mmwf.errors import did_you_mean

_PACKAGE = Path(__file__).parents[1]
_BUILDERS = (build_from_cfg.__code__, build_scheduler_from_cfg.__code__)
_UNEXPECTED = re.compile(r"unexpected keyword argument '(\w+)'")
_MISSING = re.compile(r'missing \d+ required (?:positional|keyword-only) arguments?: (.+)')


def keywords(cls: Callable) -> tuple[set[str], bool]:
    """Returns the arguments of a class or function, and whether there are no others.

    For a class whose ``__init__`` has ``**kwargs``, those of its bases are among them.

    Args:
        cls: The class or function.
    """
    if not inspect.isclass(cls):
        parameters = inspect.signature(cls).parameters.values()
        open_ = any(p.kind is p.VAR_KEYWORD for p in parameters)
        return {p.name for p in parameters}, not open_
    found: set[str] = set()
    own = [base.__init__ for base in cls.__mro__ if '__init__' in vars(base) and base is not object]
    for init in own:
        parameters = [p for p in inspect.signature(init).parameters.values() if p.name != 'self']
        found |= {p.name for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            passes_all_on = cls.__module__.startswith('mmengine.optim.scheduler')
            return found, init is own[0] or passes_all_on
    if issubclass(cls, CheckpointHook):  # its **kwargs are those of save_checkpoint
        return found | {*inspect.signature(Runner.save_checkpoint).parameters}, True
    return found, False


def _names(registry: Registry | None) -> Iterator[str]:
    """Yields the names in a registry and its parents."""
    while registry is not None:
        yield from registry.module_dict
        registry = registry.parent


def describe_unknown(name: str, registry: Registry) -> str:
    """Says that a registry has no such class, and which names are similar.

    Args:
        name: The unknown name, perhaps with a scope, ``'mmwf.X'``.
        registry: The registry that was searched.
    """
    names = {*_names(registry)}
    scope = name.rpartition('.')[0]
    child = registry.root.children.get(scope)
    if child is not None:
        names = {f'{scope}.{other}' for other in _names(child)}
    return f'There is no {registry.name} {name!r}.{did_you_mean(name, names)}'


def _is_checked_by(frame: FrameType) -> bool:
    """Whether an error is raised on purpose: in a constructor, or anywhere in mmwf."""
    is_ours = Path(frame.f_code.co_filename).is_relative_to(_PACKAGE)
    return frame.f_code.co_name == '__init__' or is_ours


def explain_build_error(error: Exception) -> str | None:
    """Explains an error that a wrong name, argument or value in a config has caused.

    Args:
        error: An error with its traceback.

    Returns:
        A line that names the class, the argument and similar names; None if the error has another
        cause.
    """
    frames, traceback = [], error.__traceback__
    while traceback is not None:
        frames.append(traceback.tb_frame)
        traceback = traceback.tb_next
    builds = [frame for frame in frames if frame.f_code in _BUILDERS]
    if not builds:
        return None
    variables, last, message = builds[-1].f_locals, frames[-1], str(error)
    cls = variables.get('obj_cls', variables.get('scheduler_cls'))
    arguments = variables.get('args') or {}
    if isinstance(error, KeyError) and last is builds[-1]:
        name = variables.get('obj_type', variables.get('scheduler_type'))
        registry = variables['registry']
        if isinstance(name, str):
            return describe_unknown(name, registry)
        return f'A {registry.name} needs a type; it has {", ".join(variables["cfg"]) or "nothing"}.'
    if cls is None:
        return None
    title = getattr(cls, '__name__', str(cls))
    if isinstance(error, TypeError):
        found = _UNEXPECTED.search(message)
        if found and found[1] in arguments:
            hint = did_you_mean(found[1], keywords(cls)[0])
            got = f'{found[1]}={arguments[found[1]]!r}'
            return f'{title} has no argument {found[1]!r} (got {got}).{hint}'
        found = _MISSING.search(message)
        if found and last is builds[-1]:
            return f'{title} needs the argument {found[1]}.'
    elif isinstance(error, (ValueError, AssertionError)) and message and _is_checked_by(last):
        return f'{title}: {message}'
    return None
