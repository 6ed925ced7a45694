"""Work in threads of its own: what goes wrong there reaches the user as one line."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from napari.utils.notifications import show_error
from qtpy.QtWidgets import QWidget

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


class Workers:
    """The workers of a widget, of which the last one for each purpose counts.

    Parameters
    ----------
    owner : QWidget
        When it is gone, nothing counts any more.
    changed : callable
        Called when some work begins or ends.
    """

    def __init__(self, owner: QWidget, changed: Callable[[], None]) -> None:
        self._running: dict[str, Any] = {}
        self._changed = changed
        running = self._running
        # When napari is closed its docks are just deleted.
        owner.destroyed.connect(lambda: running.clear())

    def __contains__(self, purpose: str) -> bool:
        return purpose in self._running

    def start(self, purpose: str, worker: Any, use: Callable[[Any], None]) -> None:
        """Run a worker of `told` work, and `finish` what it returns."""
        self.stop(purpose)

        def returned(result: Any) -> None:
            if self._running.get(purpose) is worker:
                finish(result, use)

        def finished() -> None:
            if self._running.get(purpose) is worker:
                del self._running[purpose]
                self._changed()

        worker.returned.connect(returned)
        worker.finished.connect(finished)
        self._running[purpose] = worker
        self._changed()
        worker.start()

    def stop(self, purpose: str) -> None:
        """End some work, if there is any, as soon as it can be; nothing comes of it."""
        worker = self._running.pop(purpose, None)
        if worker is not None:
            worker.quit()
            self._changed()


def _line(error: IPSError | MemoryError) -> str:
    if isinstance(error, IPSError):
        return str(error)
    return f"There is too little memory; close other layers or programs. {error}".strip()
