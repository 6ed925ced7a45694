"""Finds focus curves in another thread; what is asked last comes first."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.qt.threading import create_worker
from numpy.typing import NDArray
from qtpy.QtCore import QObject, QTimer, Signal

from napari_ips.config import FuseConfig
from napari_ips.events import Progress
from napari_ips.widgets.work import told

if TYPE_CHECKING:
    from napari_ips.fusion.probe import FocusProbe
    from napari_ips.io import LazyStack

# How often progress is looked at, milliseconds.
_TICK = 100


@dataclass(frozen=True)
class Stack:
    """One z-stack, and how it is fused."""

    identity: tuple[Any, ...]
    pixels: LazyStack
    plane: tuple[int, int]
    slices: tuple[int, int]
    config: FuseConfig

    def same_as(self, other: Stack) -> bool:
        """Whether what is known of one holds for the other."""
        return self._key == other._key

    @property
    def _key(self) -> tuple[Any, ...]:
        return self.identity, self.plane, self.slices, self.config


@dataclass(frozen=True)
class Question:
    """The area of a stack for which a curve is wanted.

    A `rough` answer may disregard fine detail, so that it comes soon.
    """

    stack: Stack
    area: tuple[slice, slice]
    name: str
    rough: bool = False


@dataclass(frozen=True)
class Answer:
    """A focus curve, with its highest slice, also in fractions, counted in the stack.

    Of a rough answer, `scale` is the one at which the slices were compared.
    """

    question: Question
    curve: NDArray[np.float32]
    best: int
    peak: float
    scale: int


class CurveFinder(QObject):
    """Answers one question at a time; a new one takes the place of those before."""

    answered = Signal(object)
    failed = Signal(str)
    progressed = Signal(object)
    busy_changed = Signal(bool)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._work = _Work()
        self._next: Question | None = None
        self._timer = QTimer(self)
        self._timer.setInterval(_TICK)
        self._timer.timeout.connect(self._look)

    @property
    def busy(self) -> bool:
        """Whether an answer is being worked on."""
        return self._work.question is not None

    def ask(self, question: Question) -> None:
        """Ask for a curve; `answered` or `failed` will tell."""
        self._next = question
        if self.busy:
            self._look()
        else:
            self._start()

    def cancel(self) -> None:
        """Answer nothing any more of what was asked."""
        self._next = None
        self._work.stop.set()

    def forget(self) -> None:
        """Cancel, and drop what is known of the stack: it has changed or is gone."""
        self.cancel()
        self._work.forget()

    def _look(self) -> None:
        """Tell the progress, and make way for a new question as soon as it is best."""
        work = self._work
        if self._next is not None and not work.helps(self._next):
            work.stop.set()
        elif work.progress is not None and not work.stop.is_set():
            self.progressed.emit(work.progress)

    def _start(self) -> None:
        assert self._next is not None
        was_busy = self.busy
        self._work.take(self._next)
        self._next = None
        worker = create_worker(told(self._work.answer))
        worker.returned.connect(self._on_returned)
        worker.finished.connect(self._on_finished)
        worker.start()
        self._timer.start()
        if not was_busy:
            self.busy_changed.emit(True)

    def _on_returned(self, found: Answer | str | None) -> None:
        if self._work.stop.is_set() or self._next is not None:
            return
        if isinstance(found, Answer):
            self.answered.emit(found)
        elif found is not None:
            self.failed.emit(found)

    def _on_finished(self) -> None:
        if self._next is not None:
            self._start()
            return
        self._timer.stop()
        self._work.leave()
        self.busy_changed.emit(False)


class _Work:
    """What the thread has to do, and what it keeps; it knows nothing of Qt."""

    def __init__(self) -> None:
        self.question: Question | None = None
        self.stop = threading.Event()
        self.progress: Progress | None = None
        self._stale = False
        self._known: tuple[Stack, FocusProbe] | None = None

    def take(self, question: Question) -> None:
        """Be about to answer a question."""
        self.question, self.stop, self.progress = question, threading.Event(), None
        if self._stale:
            self._known, self._stale = None, False

    def leave(self) -> None:
        """Have nothing to do."""
        self.question = None
        if self._stale:
            self._known, self._stale = None, False

    def forget(self) -> None:
        """Drop what is known as soon as no thread uses it."""
        self._stale = True
        if self.question is None:
            self.leave()

    def helps(self, question: Question) -> bool:
        """Whether a new question, too, has to wait for what is being done."""
        if self.question is None or not self.question.stack.same_as(question.stack):
            return False
        known = self._known
        return known is None or not (known[0].same_as(question.stack) and known[1].ready)

    def answer(self) -> Answer | None:
        """Return the answer; None if asked to stop."""
        from napari_ips.errors import Stopped
        from napari_ips.fusion.probe import best_slice, peak

        question, stop = self.question, self.stop
        assert question is not None
        try:
            probe = self._probe(question.stack)
            scale = probe.scale_for(question.area) if question.rough else 1
            curve = probe.curve(question.area, scale, stop=stop, callback=self._tell)
        except Stopped:
            return None
        first = question.stack.slices[0]
        best, highest = first + best_slice(curve), first + peak(curve)
        return Answer(question, curve, best, highest, scale)

    def _probe(self, stack: Stack) -> FocusProbe:
        from napari_ips.fusion.probe import FocusProbe

        if self._known is None or not self._known[0].same_as(stack):
            probe = FocusProbe(stack.pixels, *stack.plane, stack.slices, stack.config)
            self._known = stack, probe
        return self._known[1]

    def _tell(self, progress: Progress) -> None:
        self.progress = progress
