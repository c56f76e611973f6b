"""Errors that the user can fix, and the end of a run that can be resumed."""


class UserError(ValueError):
    """An error the user can fix; commands print its message without a traceback."""


class RunStopped(SystemExit):
    """A signal has stopped a run, which has saved a checkpoint; ends Python with :attr:`code`.

    The code is 130 after Ctrl-C (SIGINT), else 75, which asks for a restart with ``--resume``
    (``EX_TEMPFAIL`` of ``sysexits.h``).
    """
