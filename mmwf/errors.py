"""Errors that the user can fix, and the end of a run that can be resumed."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """An error the user can fix; commands print its message without a traceback."""


class RunStopped(SystemExit):
    """A signal has stopped a run, which has saved a checkpoint; ends Python with :attr:`code`.

    The code is 130 after Ctrl-C (SIGINT), else 75, which asks for a restart with ``--resume``
    (``EX_TEMPFAIL`` of ``sysexits.h``).
    """


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Returns ``' Did you mean X or Y?'`` with the names that are similar to one that is unknown.

    Args:
        name: The unknown name.
        names: The known ones.

    Returns:
        The question, with a space in front of it; an empty text if no name is similar.
    """
    close = difflib.get_close_matches(name, list(names), n=3)
    return f' Did you mean {" or ".join(close)}?' if close else ''
