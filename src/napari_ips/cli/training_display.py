"""What is told on stderr while a training runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING

from napari_ips.cli.common import aside, note

if TYPE_CHECKING:
    from rich.progress import Progress

    from napari_ips.events import ImagesFound, LossPoint, TrainingEvent, ValidationPoint

MOST_REJECTED_SHOWN = 5


@contextmanager
def training_display() -> Iterator[Callable[[TrainingEvent], None]]:
    """Show loss, validation, speed and remaining time on stderr, live on a terminal.

    Yields
    ------
    callable
        To be called with each event.
    """
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    console = aside()
    columns = (
        TextColumn("step {task.fields[step]}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("loss {task.fields[loss]:.4f}  {task.fields[psnr]}"),
        TextColumn("{task.fields[speed]:.2f} it/s [dim]left[/]"),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        yield _Display(bar)


class _Display:
    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._task = bar.add_task("", total=1.0, step=0, loss=0.0, psnr="", speed=0.0)
        self._meter = _Meter()

    def __call__(self, event: TrainingEvent) -> None:
        from napari_ips import events

        if isinstance(event, events.ImagesFound):
            _show_images(event)
        elif isinstance(event, events.LossPoint):
            self._step(event)
        elif isinstance(event, events.ValidationPoint):
            self._measured(event)
        elif isinstance(event, events.CheckpointFailed):
            self._line(
                f"No checkpoint after step {event.iteration}, training goes on. "
                f"{event.reason}"
            )
        elif isinstance(event, events.RolledBack):
            self._line(
                f"The loss was not finite: back to step {event.iteration}, with a learning "
                f"rate of {event.learning_rate:g}."
            )

    def _step(self, event: LossPoint) -> None:
        self._meter.step(event)
        self._bar.update(
            self._task,
            completed=event.fraction,
            step=event.iteration,
            loss=self._meter.loss,
            speed=self._meter.speed,
        )

    def _measured(self, event: ValidationPoint) -> None:
        self._bar.update(self._task, psnr=f"{event.psnr:.2f} dB")
        validation = f"validation {event.psnr:.2f} dB  SSIM {event.ssim:.4f}"
        told = self._meter.told()
        self._line(
            "  ".join([f"step {event.iteration:>7}", *told[:1], validation, *told[1:]])
        )

    def _line(self, line: str) -> None:
        # Through the console of the bar, which moves out of the way.
        self._bar.console.print(line, markup=False, soft_wrap=True)


class _Meter:
    """Smoothed loss, fraction done, and steps per second since the start."""

    def __init__(self) -> None:
        self.loss = 0.0
        self.fraction = 0.0
        self.speed = 0.0
        self._start: tuple[int, float] | None = None

    def step(self, event: LossPoint) -> None:
        now = perf_counter()
        # Anew as well when the run was set back.
        if self._start is None or event.iteration < self._start[0]:
            self._start = (event.iteration, now)
            self.loss = event.loss
        first, since = self._start
        self.loss += 0.05 * (event.loss - self.loss)
        self.fraction = event.fraction
        self.speed = (event.iteration - first) / (now - since) if now > since else 0.0

    def told(self) -> list[str]:
        """Tell how far the run is, and its speed; nothing before the first step."""
        if self._start is None:
            return []
        return [
            f"loss {self.loss:.5f}",
            f"{100 * self.fraction:5.1f} %",
            f"{self.speed:.2f} it/s",
        ]


def _show_images(event: ImagesFound) -> None:
    left_out = f", {len(event.rejected)} left out" if event.rejected else ""
    note(f"Training on {event.accepted} image{'s' * (event.accepted != 1)}{left_out}.")
    for path, reason in event.rejected[:MOST_REJECTED_SHOWN]:
        note(f"  {path}: {reason}")
    if len(event.rejected) > MOST_REJECTED_SHOWN:
        note(f"  and {len(event.rejected) - MOST_REJECTED_SHOWN} more")
