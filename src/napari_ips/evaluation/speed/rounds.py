"""Measure several things in turn, so that other work on the machine slows all alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import TypeVar

from napari_ips.events import Progress, ProgressCallback

_Out = TypeVar("_Out")


@dataclass(frozen=True)
class Rounds:
    """How often to measure.

    Attributes
    ----------
    most : int
    seconds : float or None
        No round begins that would, lasting as long as the one before, end later than
        this. One round is always done. None: all of them, however long it takes.
    """

    most: int
    seconds: float | None = None

    def numbers(self) -> Iterator[int]:
        """Count the rounds, while they are done."""
        start, last = perf_counter(), 0.0
        for number in range(self.most):
            begin = perf_counter()
            late = self.seconds is not None and begin - start + last > self.seconds
            if number and late:
                return
            yield number
            last = perf_counter() - begin


def in_turn(
    works: Mapping[str, Callable[[], _Out]],
    rounds: Rounds,
    task: str,
    callback: ProgressCallback | None = None,
) -> dict[str, list[_Out]]:
    """Do every work once in each round.

    Parameters
    ----------
    works : mapping
        What to do, by name.
    rounds : Rounds
    task : str
        What is told to the callback.
    callback : callable, optional
        Called with `Progress` before the first work and after each.

    Returns
    -------
    dict
        What each work gave, round by round.
    """
    found: dict[str, list[_Out]] = {name: [] for name in works}
    total, done = rounds.most * len(works), 0
    _tell(callback, task, done, total)
    for _ in rounds.numbers():
        for name, work in works.items():
            found[name].append(work())
            done += 1
            _tell(callback, task, done, total)
    return found


def median_or_none(values: Sequence[float | None]) -> float | None:
    """Return the median of the values that are known, if any is."""
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _tell(callback: ProgressCallback | None, task: str, done: int, total: int) -> None:
    if callback is not None and total:
        callback(Progress(task, done, total))
