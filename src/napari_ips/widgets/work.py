"""Work in threads of its own: what goes wrong there reaches the user as one line."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from napari.utils.notifications import show_error

from napari_ips.errors import IPSError

_P = ParamSpec("_P")
_Y = TypeVar("_Y")
_R = TypeVar("_R")


def told(work: Callable[_P, _R]) -> Callable[_P, _R | str]:
    """Return a function that does the same, but returns a line where it cannot be done.

    Of what is raised in another thread napari shows more than that line, and with PySide
    a second one.
    """

    @wraps(work)
    def plainly(*args: _P.args, **kwargs: _P.kwargs) -> _R | str:
        try:
            return work(*args, **kwargs)
        except (IPSError, MemoryError) as error:
            return _line(error)

    return plainly


def told_steps(
    work: Callable[_P, Generator[_Y, None, _R]],
) -> Callable[_P, Generator[_Y, None, _R | str]]:
    """Return a generator function as `told` does, which yields what `work` yields."""

    @wraps(work)
    def plainly(*args: _P.args, **kwargs: _P.kwargs) -> Generator[_Y, None, _R | str]:
        try:
            return (yield from work(*args, **kwargs))
        except (IPSError, MemoryError) as error:
            return _line(error)

    return plainly


def finish(result: Any, use: Callable[[Any], None]) -> None:
    """Use what such work returned, or show the line that says why there is nothing."""
    if isinstance(result, str):
        show_error(result)
    else:
        use(result)


def _line(error: IPSError | MemoryError) -> str:
    if isinstance(error, IPSError):
        return str(error)
    return f"There is too little memory; close other layers or programs. {error}".strip()
