"""Errors that a user can fix."""


class VcaeError(ValueError):
    """Bad input. The message is one line that names the file and how to fix it.

    The command line prints the message without a traceback.
    """


class AudioError(VcaeError):
    """An audio file that cannot be used. The message is one line that names the file and how to fix it."""


class AudioWarning(UserWarning):
    """A recording that is used, but not as its file says. One line that names the file and what was done."""


class PartialWarning(AudioWarning):
    """A recording of which a part is missing. The command line then exits with status 1."""
