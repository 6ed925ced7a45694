"""What is told on stderr while a command works: a bar, or lines for a log, and warnings."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

from napari_ips.cli.common import aside, note
from napari_ips.events import Begun, Progress, TileDone

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bar

    from napari_ips.events import Progress, ProgressCallback

# A log gets a line for every tenth that is done, or after so many seconds, but no flood.
_LONG = 30.0
_SHORT = 1.0
_DAY = 24 * 3600.0


@contextmanager
def progress_bar(label: str) -> Iterator[ProgressCallback]:
    """Show on stderr what is being done and how long it will take.

    On a terminal this is a bar, which is gone at the end. Elsewhere, as in the log of a
    cluster's job, it is the label, as soon as the work begins, and then a line now and
    then.

    Parameters
    ----------
    label : str
        Told until the first event.

    Yields
    ------
    callback
        To be called with each event.
    """
    console = aside()
    if not console.is_terminal:
        yield _Log(label)
        return
    with _bar(console) as bar:
        yield _Bars(bar, label)


@contextmanager
def warnings_as_lines() -> Iterator[None]:
    """Print what the package logs as a warning as one plain line on stderr."""
    logger, handler = logging.getLogger("napari_ips"), _Lines(logging.WARNING)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


class _Lines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        note(f"{record.getMessage().removesuffix('.')}.")


def _bar(console: Console) -> Bar:
    from rich import progress

    return progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        progress.TextColumn("[dim]left[/]"),
        progress.TimeRemainingColumn(),
        console=console,
        transient=True,
        # A single tile may take minutes.
        speed_estimate_period=_DAY,
    )


class _Bars:
    """One bar for each task, of which the one that is worked on is seen."""

    def __init__(self, bar: Bar, label: str) -> None:
        self._bar = bar
        self._shown = bar.add_task(label, total=None)
        self._tasks = {"": self._shown}
        self._done: dict[str, int] = {}

    def __call__(self, event: Progress) -> None:
        name, total = event.task, event.total if event.total > 1 else None
        if name not in self._tasks:
            self._tasks[name] = self._bar.add_task(_words(event), total=total)
        task = self._tasks[name]
        if event.done < self._done.get(name, 0):
            self._bar.reset(task)
        self._done[name] = event.done
        self._bar.update(self._shown, visible=False)
        self._bar.update(task, completed=event.done, total=total, visible=True)
        self._shown = task


@dataclass
class _Pace:
    """When a task began, at which step, how far it is, and the tenth that was told last."""

    begin: float
    first: int
    done: int
    tenth: int = 0

    def left(self, event: Progress, now: float) -> str:
        """Tell the time it will take from here, if that can be known."""
        if not self.first < event.done < event.total:
            return ""
        seconds = (now - self.begin) / (event.done - self.first)
        return f", {_duration(seconds * (event.total - event.done))} left"


class _Log:
    """Lines for a log."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._tasks: dict[str, _Pace] = {}
        self._last = 0.0

    def __call__(self, event: Progress) -> None:
        now, tenth = perf_counter(), 10 * event.done // max(1, event.total)
        if not self._tasks:
            note(f"{self._label}.")
            self._last = now
        pace = self._tasks.get(event.task)
        if pace is None or event.done < pace.done:
            pace = self._tasks[event.task] = _Pace(now, event.done, event.done)
        pace.done = event.done
        since = now - self._last
        if since < _LONG and (since < _SHORT or tenth <= pace.tenth):
            return
        pace.tenth, self._last = tenth, now
        line = _words(event)
        if event.total > 1:
            percent = 100 * event.done // event.total
            line += f": {event.done} of {event.total} ({percent} %)"
        note(f"{line}{pace.left(event, now)}.")


def _words(event: Progress) -> str:
    words = event.task.capitalize()
    return f"{words} tiles" if isinstance(event, Begun | TileDone) else words


def _duration(seconds: float) -> str:
    for length, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
