"""Errors that the user can fix."""


class UserError(ValueError):
    """An error the user can fix; commands print its message without a traceback."""
