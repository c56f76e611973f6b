"""What goes wrong through no fault of the code."""


class UserError(ValueError):
    """Something that the user can mend; the tools print its message without a traceback."""
