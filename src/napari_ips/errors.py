"""The one exception that is shown to a user as a plain line."""


class IPSError(Exception):
    """A problem that the user can understand and mend.

    ``str(error)`` is one plain line: what is wrong and what to do about it. The
    command line prints it without a traceback, widgets show it as a notification.
    """
