"""What a run told of its losses and measurements, also across pauses and crashes."""

from __future__ import annotations

from bisect import bisect_left
from contextlib import suppress
from pathlib import Path

from napari_ips.events import LossPoint, RolledBack, TrainingEvent, ValidationPoint

_NAME = "history.tsv"
# Share by which the smoothed loss follows each new one in the long run.
_FOLLOW = 0.05


class Series:
    """Values by iteration, which only grows."""

    def __init__(self) -> None:
        self.iterations: list[int] = []
        self.values: list[float] = []

    def add(self, iteration: int, value: float) -> None:
        """Append a value; what was told of this iteration and later ones is forgotten."""
        self.cut(iteration)
        self.iterations.append(iteration)
        self.values.append(value)

    def cut(self, iteration: int) -> None:
        """Forget an iteration and all later ones."""
        if self.iterations and self.iterations[-1] >= iteration:
            kept = bisect_left(self.iterations, iteration)
            del self.iterations[kept:], self.values[kept:]

    def thinned(self, most: int) -> tuple[list[int], list[float]]:
        """Return at most so many points, and always the last one."""
        step = -(-len(self.values) // most) or 1
        start = (len(self.values) - 1) % step if self.values else 0
        return self.iterations[start::step], self.values[start::step]


class History:
    """The lines of the plot: loss, smoothed loss, and PSNR of the held-out crops."""

    def __init__(self) -> None:
        self.loss, self.smooth, self.psnr = Series(), Series(), Series()

    def add(self, event: TrainingEvent) -> None:
        """Take an event; those that are about something else change nothing."""
        if isinstance(event, LossPoint):
            self._add_loss(event.iteration, event.loss)
        elif isinstance(event, ValidationPoint):
            self.psnr.add(event.iteration, event.psnr)
        elif isinstance(event, RolledBack):
            for series in (self.loss, self.smooth, self.psnr):
                series.cut(event.iteration + 1)

    @classmethod
    def of_run(cls, folder: Path) -> History:
        """Read what was written of a run; nothing, if there is no such file."""
        history = cls()
        with suppress(OSError):
            lines = (folder / _NAME).read_text(encoding="utf-8").splitlines()
            for line in lines:
                # A line may be cut short by a crash.
                with suppress(ValueError):
                    kind, iteration, value = line.split("\t")
                    if kind == "loss":
                        history._add_loss(int(iteration), float(value))
                    elif kind == "psnr":
                        history.psnr.add(int(iteration), float(value))
        return history

    def _add_loss(self, iteration: int, loss: float) -> None:
        self.loss.add(iteration, loss)
        self.smooth.cut(iteration)
        before = self.smooth.values[-1] if self.smooth.values else loss
        # The mean of all, as long as they are few.
        share = max(_FOLLOW, 1 / (len(self.smooth.values) + 1))
        self.smooth.add(iteration, before + share * (loss - before))


class Recorder:
    """Writes the history of a run beside its checkpoint, some events at a time."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / _NAME
        self._lines: list[str] = []

    def take(self, event: TrainingEvent) -> None:
        """Keep an event for the next `write`."""
        if isinstance(event, LossPoint):
            self._lines.append(f"loss\t{event.iteration}\t{event.loss:.6g}\n")
        elif isinstance(event, ValidationPoint):
            self._lines.append(f"psnr\t{event.iteration}\t{event.psnr:.6g}\n")

    def write(self) -> None:
        """Append to the file; a full disk is no reason to end the training."""
        with suppress(OSError), self._path.open("a", encoding="utf-8") as file:
            file.writelines(self._lines)
            self._lines.clear()
