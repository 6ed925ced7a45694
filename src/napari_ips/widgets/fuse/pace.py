"""How far a run is, and how long it will take, in words."""

from __future__ import annotations

import time

from napari_ips.events import Progress


class Pace:
    """How fast a run gets on, for the time that is left."""

    def __init__(self) -> None:
        self._begin = time.monotonic()
        self._task = ""
        self._first = 0
        self._since = 0.0

    @property
    def seconds(self) -> float:
        """How long it is since the run began."""
        return time.monotonic() - self._begin

    def left(self, event: Progress) -> str:
        """Tell how far the work is, and how long it will take from here."""
        now = time.monotonic()
        if event.task != self._task:
            self._task, self._first, self._since = event.task, event.done, now
        words = event.task.capitalize()
        if event.total > 1:
            words += f" {event.done} of {event.total}"
        done = event.done - self._first
        if done < 1 or event.done >= event.total:
            return words
        seconds = (now - self._since) / done * (event.total - event.done)
        return f"{words}, {duration(seconds)} left"


def duration(seconds: float) -> str:
    """Return a length of time as people say it."""
    if seconds >= 5400:
        return f"{seconds / 3600:.1f} h"
    if seconds >= 90:
        return f"{seconds / 60:.0f} min"
    return f"{max(1, round(seconds))} s"
