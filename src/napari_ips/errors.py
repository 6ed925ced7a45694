"""What ends work: a problem, told to the user in a plain line, or a wish to stop."""


class IPSError(Exception):
    """A problem that the user can understand and mend.

    ``str(error)`` is one plain line: what is wrong and what to do about it. The
    command line prints it without a traceback, widgets show it as a notification.
    """


class Stopped(Exception):  # noqa: N818 (not an error: somebody asked for it)
    """The work was asked to stop."""
