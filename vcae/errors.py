"""What is raised for something that a user can mend."""


class VcaeError(ValueError):
    """Bad input. The message is one line that names the file and says what to do about it.

    The command line prints it, without a traceback.
    """


class AudioError(VcaeError):
    """An audio file that cannot be used. One line that names the file and says what to do about it."""
