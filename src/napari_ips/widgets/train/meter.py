"""How far and how fast a training is, in words."""

from __future__ import annotations

from collections import deque

import psutil

from napari_ips.events import LossPoint, TrainingFinished, ValidationPoint
from napari_ips.widgets.fuse.pace import duration
from napari_ips.widgets.train.work import Told

# Speed is that of the last so many seconds.
_WINDOW = 20.0


class Meter:
    """Follows the events of one run, through its pauses."""

    def __init__(self) -> None:
        self.iteration = 0
        self.fraction = 0.0
        self.best: float | None = None
        self.first: float | None = None
        self._seconds = 0.0
        self.begin_leg()

    def begin_leg(self) -> None:
        """Begin to measure anew, for the run begins or goes on."""
        self._points: deque[tuple[float, int]] = deque()
        self._leg: tuple[float, float] | None = None
        self._last = 0.0

    def end_leg(self) -> None:
        """Keep the time, for the run is paused or has ended."""
        if self._leg is not None:
            self._seconds += self._last - self._leg[0]
        self.begin_leg()

    def take(self, told: Told) -> None:
        """Follow an event."""
        event = told.event
        if isinstance(event, ValidationPoint):
            self.first = event.psnr if self.first is None else self.first
            self.best = max(event.psnr, self.best or event.psnr)
        if isinstance(event, TrainingFinished) and event.reason == "length":
            self.fraction = 1.0
        if not isinstance(event, LossPoint):
            return
        self.iteration, self.fraction, self._last = (
            event.iteration,
            event.fraction,
            told.when,
        )
        if self._leg is None:
            self._leg = told.when, event.fraction
        self._points.append((told.when, event.iteration))
        while told.when - self._points[0][0] > _WINDOW and len(self._points) > 2:
            self._points.popleft()

    @property
    def seconds(self) -> float:
        """Time spent in training, pauses left out."""
        leg = self._last - self._leg[0] if self._leg is not None else 0.0
        return self._seconds + leg

    @property
    def running(self) -> bool:
        """Whether a step was taken since the run began or went on."""
        return self._leg is not None

    def steps(self) -> str:
        """Tell the number of steps, and of what share of the run."""
        share = f" ({100 * self.fraction:.0f} %)" if self.fraction else ""
        return f"{self.iteration:,}{share}" if self.iteration else ""

    def speed(self) -> str:
        """Tell the steps in a second; "" while none is known."""
        if len(self._points) < 2:
            return ""
        (begin, first), (end, last) = self._points[0], self._points[-1]
        # After a fall back the count is lower for a while.
        if last <= first or end <= begin:
            return ""
        return f"{(last - first) / (end - begin):.3g} steps/s"

    def time(self) -> str:
        """Tell how long it took, and how long it will take from here."""
        words = duration(self.seconds)
        if self._leg is not None:
            begin, fraction = self._leg
            gone, done = self._last - begin, self.fraction - fraction
            if done > 0 and gone > 1:
                words += f", about {duration(gone / done * (1 - self.fraction))} left"
        return words

    def quality(self) -> str:
        """Tell how well held-out crops are fused, at the start and at best."""
        if self.first is None or self.best is None:
            return ""
        return f"{self.first:.2f} dB at the start, {self.best:.2f} dB at best"


def memory() -> str:
    """Tell how much memory the program uses, that of a CUDA GPU included."""
    import torch

    words = f"{psutil.Process().memory_info().rss / 1e9:.2g} GB"
    if torch.cuda.is_available():
        words += f", {torch.cuda.memory_reserved() / 1e9:.2g} GB of the GPU"
    return words
